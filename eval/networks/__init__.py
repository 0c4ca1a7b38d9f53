"""Networks that measure: they never edit."""
