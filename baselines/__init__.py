"""Editors to compare with, over the same walk."""
