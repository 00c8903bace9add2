"""Benchmarks of the search: replay of recorded curves, and overhead."""
