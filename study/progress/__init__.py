"""How far a study is, and what a study will take."""
