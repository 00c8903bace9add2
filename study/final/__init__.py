"""The final stage of a study: full inference of the finalists on validation cases, then on test cases."""
