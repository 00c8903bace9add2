"""The project's benchmarks, beside the peers that are installed; neither Ray nor Optuna is needed."""
