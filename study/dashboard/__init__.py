"""The live views of a study: its progress, and Optuna Dashboard on its journal. The study is only read."""
