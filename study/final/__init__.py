"""The final stage: full inference of the finalists on validation cases, then on test cases."""
