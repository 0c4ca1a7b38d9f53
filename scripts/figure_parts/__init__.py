"""The parts of scripts/make_figures.py."""
