"""Benchmarks of training steps, inference and post-processing."""
