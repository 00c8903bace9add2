"""The command lines: one module a command of `python -m renalnet`."""
