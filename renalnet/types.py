"""Array aliases and axis order that every module shares.

Arrays are (z, y, x) in LPS orientation, with z towards the head. Tensors are (B, C, D, H, W) with D = z, H = y and
W = x. `spacing_mm` and `origin_mm` are (z, y, x) too. Only names that end in `_xyz` use the (x, y, z) order of ITK.
"""

from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

HuArray: TypeAlias = NDArray[np.int16]
"""CT intensities in Hounsfield units (HU), (z, y, x)."""
LabelArray: TypeAlias = NDArray[np.uint8]
"""Labels, (z, y, x): 0 is background, the others are values of a `LabelSet`."""
MaskArray: TypeAlias = NDArray[np.bool_]
"""Voxels of a mask, (z, y, x)."""
FloatArray: TypeAlias = NDArray[np.float32]
"""Single-precision numbers, such as scaled intensities or probabilities."""
Triple: TypeAlias = tuple[float, float, float]
"""A number for each axis, (z, y, x)."""
Shape: TypeAlias = tuple[int, int, int]
"""Voxels along each axis, (z, y, x)."""
Split: TypeAlias = Literal["train", "validation", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
BACKGROUND: Final = 0
"""Value of background in every label set."""
IGNORE_LABEL: Final = 255
"""Label of the voxels outside an ROI, where a crop is padded. They do not contribute to the loss."""
