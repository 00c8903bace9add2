"""A search space in which every parameter is searched."""

from study.config.sections import SpaceConfig

EVERYTHING = SpaceConfig(
    base_rate=(1e-4, 1e-2),
    rate_decay=(0.05, 0.5),
    weight_decay=(1e-6, 1e-3),
    tumor_share=(0.2, 0.6),
    batch_size=(2, 4),
    width=(8, 16),
)
OWN_WIDTHS = {8: 8, 16: 16}
"""Widths of 3D_FCN_PPM itself."""
