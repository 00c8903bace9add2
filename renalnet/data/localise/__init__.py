"""Multi-atlas localisation of the kidneys in a scan (paper, II.A)."""
