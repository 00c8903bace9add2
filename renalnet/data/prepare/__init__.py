"""From a folder of scans to a store of regions of interest."""
