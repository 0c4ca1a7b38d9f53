"""Benchmarks and what is measured on them."""
