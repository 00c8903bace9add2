"""Checks of scans and cohorts before preparation: facts are measured once, then judged."""
