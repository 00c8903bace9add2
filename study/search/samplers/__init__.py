"""The samplers, one module each, as `study/config/catalogue.py` lists them, and what they share."""
