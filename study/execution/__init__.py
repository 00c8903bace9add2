"""Everything that runs on Ray: trials, tasks, and the driver of a study."""
