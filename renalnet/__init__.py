"""Kidney and renal tumor segmentation in contrast CT with 3D_FCN_PPM (Yang et al., ICPR 2018)."""

__version__ = "0.1.0"
