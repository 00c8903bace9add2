"""Prediction on scans: a model bundle finds the kidneys of a scan, segments them and states what is known of it."""
