"""Evidence on the three networks: one command from label maps to the committed tables and figures."""
