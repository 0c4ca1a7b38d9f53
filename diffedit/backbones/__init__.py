"""The networks behind a program."""
