"""From scores to tables, plots, sheets and dashboards."""
