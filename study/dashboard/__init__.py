"""The live views of a study: Optuna Dashboard on its own journal, which is read and never written."""
