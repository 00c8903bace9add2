"""Inference: stitched inference, post-processing and export of a model."""
