"""Everything that runs on Ray: the driver of a study, its trials and its tasks."""
