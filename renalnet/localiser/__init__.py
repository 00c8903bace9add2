"""Localisation of the kidneys by a coarse network that sees the whole scan, with the atlases as a second opinion."""
