"""Ray clusters for a study: a cluster of many nodes on one machine, job submission, and manifests for real clusters."""
