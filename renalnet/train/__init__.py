"""One training run: a loop over steps that validates, checkpoints and resumes. It knows nothing of Ray."""
