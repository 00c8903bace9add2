"""Finding kidneys in a scan by atlases."""
