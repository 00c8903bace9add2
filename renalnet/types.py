"""Array aliases, axis legend and label names shared by every module.

Arrays are (z, y, x) in LPS with z towards the head; tensors are (B, C, D, H, W) with D = z, H = y, W = x;
`spacing_mm` and `origin_mm` are (z, y, x) as well. Only names that say `_xyz` follow ITK's (x, y, z).
"""

from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

HuArray: TypeAlias = NDArray[np.int16]
"""CT numbers in Hounsfield units, (z, y, x)."""
LabelArray: TypeAlias = NDArray[np.uint8]
"""Labels 0 background, 1 kidney, 2 tumor, (z, y, x)."""
MaskArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float32]
Triple: TypeAlias = tuple[float, float, float]
Shape: TypeAlias = tuple[int, int, int]
Split: TypeAlias = Literal["train", "validation", "test"]
NetName: TypeAlias = Literal["fcn_ppm", "unet3d", "pspnet2d"]

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
NETWORKS: Final[tuple[NetName, ...]] = ("fcn_ppm", "unet3d", "pspnet2d")
BACKGROUND: Final = 0
KIDNEY: Final = 1
TUMOR: Final = 2
NUM_CLASSES: Final = 3
LABEL_NAMES: Final[dict[int, str]] = {BACKGROUND: "background", KIDNEY: "kidney", TUMOR: "tumor"}
FOREGROUND_LABELS: Final = (KIDNEY, TUMOR)
IGNORE_LABEL: Final = 255
"""Marks voxels that lie outside a ROI where a crop had to be padded; they carry no loss."""
