"""The finalists of a study: the best configurations of the search, their repeats, and the choice of the winner."""
