"""The image of a painted body: CT numbers by phase, tumors, the scanner and its artifacts."""
