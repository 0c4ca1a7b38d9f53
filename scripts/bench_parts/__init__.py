"""The parts of scripts/bench.py: a sub-command a file, and what they share."""
