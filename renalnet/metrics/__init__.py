"""Overlap, surface distance, detection: how a predicted mask differs from the truth."""
