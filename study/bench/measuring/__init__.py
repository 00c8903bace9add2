"""Shared by all benchmarks: scenes, sizes, processes, tables."""
