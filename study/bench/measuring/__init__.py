"""Tools that all benchmarks share: synthetic ROIs, sizes, processes and tables."""
