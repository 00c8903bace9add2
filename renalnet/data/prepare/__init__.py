"""Preparation: from a folder of scans to a store of ROIs."""
