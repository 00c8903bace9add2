"""What a study says about its searched parameters: importances with a test, marginal effects, an interaction."""
