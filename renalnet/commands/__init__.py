"""The commands of `python -m renalnet`, one module each, and what all command lines share."""
