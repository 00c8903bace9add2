"""The losses, one module each, as `renalnet/config/losses.py` lists them, and what they share."""
