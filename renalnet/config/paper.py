"""Numbers of the paper's cohort (Yang et al., ICPR 2018) that the project compares with or starts from."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PAPER_SHARES: Final[Mapping[str, float]] = MappingProxyType({"background": 0.8064, "kidney": 0.1693, "tumor": 0.0243})
"""Shares of the volume of the ROIs, in label order (II.A.3)."""
PAPER_KIDNEY_ML: Final = (85.76, 156.37, 262.78)
PAPER_TUMOR_ML: Final = (2.11, 33.58, 144.82)
"""Smallest, mean and largest volume (III.A)."""
PAPER_PIXEL_MM: Final = (0.59, 0.74)
"""Range of the pixel spacing (III.A)."""
