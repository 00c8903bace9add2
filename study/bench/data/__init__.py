"""Benchmarks of loading, streaming, preparing and localising."""
