"""The pruners, one module each, as `study/config/catalogue.py` lists them."""
