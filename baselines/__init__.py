"""Editors to compare with, over the same program."""
