"""Labelled scans on disk as cases: folder layouts, loading, left and right kidney, regions of interest, splits."""
