"""Inference: stitched inference, post-processing, prediction on a scan and export."""
