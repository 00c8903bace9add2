"""Ray clusters to run a study on: many nodes on one machine, a checked submission, manifests for real ones."""
