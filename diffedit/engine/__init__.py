"""Queries of many programs, answered in batches of constant size."""
