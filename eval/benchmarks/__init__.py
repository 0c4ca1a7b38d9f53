"""Sources of edit requests."""
