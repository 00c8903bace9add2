"""One training run: a loop over steps that validates, writes checkpoints and resumes. It is independent of Ray."""
