"""The search: Ray Tune and Optuna over renalnet's training runs, the final stage, and the report."""
