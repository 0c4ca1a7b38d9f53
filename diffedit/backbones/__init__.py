"""The networks behind a walk."""
