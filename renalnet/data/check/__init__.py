"""What is known and judged of scans before they are cut."""
