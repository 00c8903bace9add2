"""The progress of a study while it runs, its forecast before it starts, and the cost of a trial."""
