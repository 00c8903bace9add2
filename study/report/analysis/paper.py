"""What the paper printed (Yang et al., ICPR 2018, Table I), to be set beside a study's own numbers."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PaperRow:
    """A row of Table I over the paper's own 50 test patients; distances in pixels as mean and sd."""

    dice_kidney: float
    dice_tumor: float
    distance_kidney_px: tuple[float, float]
    distance_tumor_px: tuple[float, float]


TABLE_ONE: Final[dict[str, PaperRow]] = {
    "pspnet2d": PaperRow(0.902, 0.638, (4.47, 1.55), (12.08, 12.82)),
    "unet3d": PaperRow(0.927, 0.751, (4.28, 1.53), (2.86, 0.94)),
    "fcn_ppm": PaperRow(0.931, 0.779, (4.24, 1.55), (2.65, 0.91)),
}

NOT_COMPARABLE: Final = (
    "The paper's columns are quoted from its Table I and describe its own 50 test patients, not ours. "
    "They stand beside ours for orientation only: the data differ, so the numbers cannot be compared."
)
FOOTNOTES: Final[tuple[str, ...]] = (
    "The paper contradicts itself on 3D_FCN_PPM (Dice kidney / tumor): Table I 0.931 / 0.779, its abstract "
    "0.923 / 0.826, its text and conclusion 0.931 / 0.802. Table I is quoted.",
    "The paper's tumor distance of 2D PSPNet is printed “12.0.8 ± 12.82” and read here as 12.08.",
    "The paper's kidney distances (4.2 px at a Dice of 0.93) are hardly plausible: quoted, not aimed at.",
)
