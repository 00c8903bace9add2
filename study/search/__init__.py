"""The search: its space, samplers, pruning, and the Optuna journal."""
