"""From scans on disk to batches of patches."""
