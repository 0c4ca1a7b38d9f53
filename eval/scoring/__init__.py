"""From a finished run to scores with intervals."""
