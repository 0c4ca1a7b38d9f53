"""Arrays in, numbers out: the formulas of the metrics."""
