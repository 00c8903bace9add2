"""Checks of scans and cohorts before they are cut: facts are measured once, then judged."""
