"""Remarks on a scan that a model was not trained for: other contrast, thicker slices, or no CT numbers.

The ranges of the training cases come from the model's bundle (`quality_file`).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from renalnet.config import LabelSet
from renalnet.data.checks.case_checks import NEAR_AIR_HU
from renalnet.data.checks.case_facts import ENHANCED_HU
from renalnet.data.images.volume import Volume
from renalnet.inference.quality_file import TrainingScans
from renalnet.types import HuArray, LabelArray

MARGIN_HU: Final = 20.0
"""Distance from the training range that is still familiar: few training cases do not reach the ends of their range."""
THICKER: Final = 1.5
"""Distance between slices, relative to the largest one in training, that is still familiar."""


def mean_kidney_hu(image: HuArray, labels: LabelArray, label_set: LabelSet) -> float | None:
    """Return the mean CT number of the voxels labelled as kidney; None without such a voxel.

    Args:
        image: CT numbers (z, y, x).
        labels: labels (z, y, x).
        label_set: meaning of the labels.
    """
    kidney = image[labels == label_set.kidney.value]
    return float(kidney.mean()) if kidney.size else None


def scan_remarks(image: Volume, training: TrainingScans | None, *, is_cut: bool) -> Iterator[str]:
    """Yield a line for values that are no CT numbers, and one for slices thicker than in training.

    Args:
        image: canonical volume of HU.
        training: scans of the training cases; None where they are not known.
        is_cut: whether the scan is already cut to an ROI, which need not hold air.
    """
    lowest = int(image.array.min())
    if lowest >= 0:
        yield f"no value below 0 (lowest {lowest}): another modality, or CT numbers without their offset of -1024?"
    elif lowest >= NEAR_AIR_HU and not is_cut:
        yield f"no voxel below {NEAR_AIR_HU} HU (lowest {lowest}), but a CT shows air: another modality, or windowed?"
    spacing_mm = image.grid.spacing_mm[0]
    if training and spacing_mm > THICKER * training.spacing_z_mm[1]:
        low, high = training.spacing_z_mm
        yield f"slices every {spacing_mm:g} mm, but this model learned from slices every {_span(low, high)} mm"


def kidney_remarks(hu: float | None, name: str, training: TrainingScans | None) -> Iterator[str]:
    """Yield a line for a kidney whose CT numbers are more than `MARGIN_HU` outside the range of the training cases.

    Args:
        hu: mean CT number of the kidney; None for a mask without kidney.
        name: the kidney in the line, such as "left kidney".
        training: scans of the training cases; None where they are not known.
    """
    if hu is None or training is None:
        return
    low, high = training.kidney_hu
    if low - MARGIN_HU <= hu <= high + MARGIN_HU:
        return
    guess = "an unenhanced scan?" if hu < ENHANCED_HU < low else "another phase, or not a kidney?"
    range_hu = _span(np.rint(low), np.rint(high))
    yield f"{name} has a mean of {hu:.0f} HU, but the kidneys that this model learned from have {range_hu} HU; {guess}"


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
