"""Scans with wrong axes or a wrong spacing, whose kidneys the localiser finds only after a correction.

A wrong header shows a patient upside down, back to front, on the side or stretched. The network has learned
to find nothing there. Where a correction brings the labelled kidneys to light, the scan is named by it.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Side
from renalnet.data.images.resampling import covering_grid, regrid_image, regrid_label
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.localise.localiser import LOW_CONFIDENCE
from renalnet.localiser.coarse_scan import COARSE_MM, CoarseScan
from renalnet.localiser.kidneys import CoarseKidney, kidneys_of

if TYPE_CHECKING:
    from renalnet.localiser.network import CoarseNetwork

HELD_SHARE: Final = 0.5
"""Share of the labelled voxels in boxes of found kidneys from which the label counts as found."""
BETTER_BY: Final = 0.25
"""Share of the labelled voxels that a correction must find in addition."""
LIVER_MM: Final = 120.0
"""Height above the middle of the kidneys up to which soft tissue is compared."""
SPINE_MM: Final = 25.0
"""Half the width of the spine, which is left out."""
SOFT_HU: Final = (0, 250)
MIRRORED_RATIO: Final = 0.85
"""Ratio of right and left soft tissue below which a scan seems to be mirrored."""

Turn: TypeAlias = Callable[[NDArray[np.generic]], NDArray[np.generic]]
"""Reordering of an array (z, y, x)."""

TURNS: Final[Mapping[str, Turn]] = MappingProxyType(
    {
        "upside down": lambda array: array[::-1],
        "back to front": lambda array: array[:, ::-1],
        "upside down and back to front": lambda array: array[::-1, ::-1],
        "on its side": lambda array: array.swapaxes(1, 2),
        "with its slices along the wrong axis": lambda array: array.swapaxes(0, 1)[::-1],
    }
)
"""Ways in which the axes of a scan may be wrong, each with the reordering that corrects it."""
STRETCHES: Final[Mapping[str, float]] = MappingProxyType(
    {"with slices that are half as far apart as its header says": 0.5}
)
"""Ways in which the spacing along z may be wrong, each with the factor that corrects it."""


def find_in(network: "CoarseNetwork", scan: CoarseScan) -> dict[Side, CoarseKidney]:
    """Return the kidneys that are found with confidence in a coarse scan."""
    kidneys = kidneys_of(network.kidneys(scan.image), scan.image.grid)
    return {side: kidney for side, kidney in kidneys.items() if kidney.confidence >= LOW_CONFIDENCE}


def labelled_share(kidneys: Mapping[Side, CoarseKidney], scan: CoarseScan) -> float:
    """Return the share of the labelled kidneys in the boxes of found ones of the same side, 0 to 1; 0 without label."""
    total = np.count_nonzero(scan.sides.array)
    held = 0.0
    for side, kidney in kidneys.items():
        mask = scan.sides.array == SIDE_VALUES[side]
        held += kidney.box.share_of(mask, scan.sides.grid) * np.count_nonzero(mask)
    return held / total if total else 0.0


def wrong_axes(network: "CoarseNetwork", scan: CoarseScan, share: float) -> str | None:
    """Return how the axes or the spacing of a labelled scan are wrong, or None where no correction helps.

    Args:
        network: the localiser's network.
        scan: a scan whose labels the found kidneys hold too little of.
        share: share of the label in the found kidneys of the scan as it is, 0 to 1.
    """
    shares = {problem: labelled_share(find_in(network, each), each) for problem, each in _corrections(scan).items()}
    best = max(shares, key=lambda problem: shares[problem])
    return best if shares[best] >= max(share + BETTER_BY, HELD_SHARE) else None


def is_mirrored(kidneys: Mapping[Side, CoarseKidney], scan: CoarseScan) -> bool:
    """Whether the liver seems to be on the patient's left; False where the scan does not show it with both kidneys.

    Above the kidneys, the right half of a body has more soft tissue than the left one: 1.3 to 2.1 times in painted
    and 1.5 to 1.7 times in two real scans. A mirrored scan has less, as a patient with situs inversus.
    """
    if len(kidneys) < len(SIDES):
        return False
    centres = np.array([kidney.outline.centre_mm for kidney in kidneys.values()])
    z_mm, _, x_mm = centres.mean(axis=0)
    z, _, x = (first + step * np.arange(n) for first, step, n in _axes(scan.image.grid))
    above = scan.image.array[(z > z_mm) & (z < z_mm + LIVER_MM)]
    soft = (above > SOFT_HU[0]) & (above < SOFT_HU[1])
    left = np.count_nonzero(soft[:, :, x > x_mm + SPINE_MM])
    right = np.count_nonzero(soft[:, :, x < x_mm - SPINE_MM])
    return bool(right < MIRRORED_RATIO * left)


def _axes(grid: Grid) -> Iterable[tuple[float, float, int]]:
    return zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True)


def _corrections(scan: CoarseScan) -> dict[str, CoarseScan]:
    turned = {problem: _turned(scan, turn) for problem, turn in TURNS.items()}
    return turned | {problem: _stretched(scan, factor) for problem, factor in STRETCHES.items()}


def _turned(scan: CoarseScan, turn: Turn) -> CoarseScan:
    image = np.ascontiguousarray(turn(scan.image.array))
    sides = np.ascontiguousarray(turn(scan.sides.array))
    shape = (image.shape[0], image.shape[1], image.shape[2])
    grid = Grid.axis_aligned(shape, scan.image.grid.spacing_mm)
    return CoarseScan(scan.name, Volume(image, grid), Volume(_resided(sides), grid))


def _resided(sides: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the sides by their place in the turned scan: in LPS, x grows towards the patient's left."""
    masks = [sides == SIDE_VALUES[side] for side in SIDES]
    middle = [float(np.nonzero(mask)[2].mean()) if mask.any() else None for mask in masks]
    left, right = middle
    if left is None or right is None:
        only = left if right is None else right
        is_swapped = only is not None and (only > sides.shape[2] / 2) != (right is None)
    else:
        is_swapped = left < right
    values = np.zeros(sides.shape, np.uint8)
    for side, mask in zip(SIDES if not is_swapped else SIDES[::-1], masks, strict=True):
        values[mask] = SIDE_VALUES[side]
    return values


def _stretched(scan: CoarseScan, factor: float) -> CoarseScan:
    z_mm, y_mm, x_mm = scan.image.grid.spacing_mm
    grid = Grid.axis_aligned(scan.image.grid.shape, (z_mm * factor, y_mm, x_mm))
    coarse = covering_grid(grid, (COARSE_MM,) * 3)
    image = regrid_image(Volume(scan.image.array, grid), coarse, float(scan.image.array.min()))
    return CoarseScan(scan.name, image, regrid_label(Volume(scan.sides.array, grid), coarse))
