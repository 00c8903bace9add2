"""The best configurations of a search: which they are, their repeats, and the choice of the winner."""
