"""Two segmentation rules that use CT numbers only, to show how far a cohort can be segmented without a network.

Both are fitted exactly from counts of voxels by HU and label for each case, so no image is kept in memory. A case
without a voxel of a label is left out of the mean of a rule for that label.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.errors import InputError
from renalnet.types import BACKGROUND, HuArray, LabelArray

THRESHOLD_ROI: Final = "threshold_roi"
"""Name of `WindowRule` in tables and files."""
THRESHOLD_INSIDE: Final = "threshold_inside"
"""Name of `InsideRule` in tables and files."""
RULE_HU_RANGE: Final = (-200, 500)
"""CT numbers are clipped to this range, the default of PrepareConfig."""
_HU_LOW, _HU_HIGH = RULE_HU_RANGE
# A divisor of the range, so that the last bound is 500 exactly.
WINDOW_STRIDE_HU: Final = 5
"""Distance between the bounds of the windows that are compared."""

# The tissues that the rules tell apart. All other labels are other tissue.
_KIDNEY: Final = 1
_TUMOR: Final = 2
_NUM_TISSUES: Final = 3
_NAMES: Final = {_KIDNEY: "kidney", _TUMOR: "tumor"}

HuCounts: TypeAlias = NDArray[np.int64]
"""Number of voxels of a case (701, 3), by clipped HU (row 0 is -200) and tissue: other, kidney, tumor."""
Window: TypeAlias = tuple[int, int]
"""Bounds (low, high) in HU."""


def hu_counts(image: HuArray, label: LabelArray, labels: LabelSet) -> HuCounts:
    """Count the voxels of one case by HU and tissue.

    Args:
        image: CT numbers (z, y, x) in HU.
        label: values of `labels` (z, y, x).
        labels: meaning of the values.

    Raises:
        InputError: the shapes differ.
    """
    if image.shape != label.shape:
        raise InputError(f"image has shape {image.shape} and label map {label.shape}; both must be on one grid")
    num_hu = _HU_HIGH - _HU_LOW + 1
    rows = np.clip(image, _HU_LOW, _HU_HIGH).astype(np.int64) - _HU_LOW
    tissues = np.zeros(labels.num_classes, np.int64)
    tissues[[labels.kidney.value, labels.tumor.value]] = _KIDNEY, _TUMOR
    counts = np.bincount((rows * _NUM_TISSUES + tissues[label]).ravel(), minlength=num_hu * _NUM_TISSUES)
    return counts.reshape(num_hu, _NUM_TISSUES)


@dataclass(frozen=True)
class InsideRule:
    """A rule that separates tumor from kidney by one threshold, inside the *true* region of both."""

    threshold_hu: int
    """Threshold in HU."""
    below: bool
    """Whether tumor is HU < threshold; otherwise it is HU >= threshold."""
    tumor_dice: float
    """Mean tumor Dice over the fitted cases with a tumor, 0 to 1."""

    def apply(self, image: HuArray, label: LabelArray, labels: LabelSet) -> LabelArray:
        """Return the labels (z, y, x) of the rule; `label` is used only for the region."""
        clipped = np.clip(image, _HU_LOW, _HU_HIGH)
        tumor = clipped < self.threshold_hu if self.below else clipped >= self.threshold_hu
        inside = np.where(tumor, labels.tumor.value, labels.kidney.value)
        is_inside = (label == labels.kidney.value) | (label == labels.tumor.value)
        return np.where(is_inside, inside, BACKGROUND).astype(np.uint8)


@dataclass(frozen=True)
class WindowRule:
    """A rule that labels one window of HU as kidney and one as tumor, over the whole ROI.

    A window (low, high) contains low <= HU < high after clipping, so bounds of -200 and 500 include all values beyond.
    Voxels in both windows are tumor, so `tumor_dice` is exactly the Dice of the rule.
    """

    kidney_hu: Window
    """Window of the kidney."""
    tumor_hu: Window
    """Window of the tumor."""
    kidney_dice: float
    """Mean kidney Dice of the kidney window alone, before voxels of the tumor window are removed; 0 to 1."""
    tumor_dice: float
    """Mean tumor Dice over the fitted cases with a tumor, 0 to 1."""

    def apply(self, image: HuArray, label: LabelArray | None, labels: LabelSet) -> LabelArray:
        """Return the labels (z, y, x) of the rule; `label` is not used and makes the two rules interchangeable."""
        del label
        # A bound of 500 includes 500 and above, although windows exclude their upper bound.
        clipped = np.clip(image, _HU_LOW, _HU_HIGH - 1)
        kidney, tumor = ((clipped >= low) & (clipped < high) for low, high in (self.kidney_hu, self.tumor_hu))
        return np.where(tumor, labels.tumor.value, np.where(kidney, labels.kidney.value, BACKGROUND)).astype(np.uint8)


def fit_inside_rule(cases: Iterable[tuple[HuArray, LabelArray]], labels: LabelSet) -> InsideRule:
    """Return the threshold and direction with the highest mean tumor Dice over the cases with a tumor.

    Args:
        cases: pairs of image (z, y, x) in HU and label map; read once, one at a time.
        labels: meaning of the values of the label maps.

    Raises:
        InputError: no case has a tumor, or shapes differ.
    """
    return fit_inside_rule_to_counts(hu_counts(image, label, labels) for image, label in cases)


def fit_inside_rule_to_counts(counts: Iterable[HuCounts]) -> InsideRule:
    """Return `fit_inside_rule` of counted cases; among equals `below`, then the lower threshold is chosen."""
    cases = _holding(counts, _TUMOR)
    dice = np.mean([_threshold_dice(case) for case in cases], axis=0)
    # Among equals, argmax takes the first: `below`, then the lower threshold.
    direction, row = np.unravel_index(int(dice.argmax()), dice.shape)
    return InsideRule(int(row) + _HU_LOW, bool(direction == 0), float(dice[direction, row]))


def fit_window_rule(cases: Iterable[tuple[HuArray, LabelArray]], labels: LabelSet) -> WindowRule:
    """Return the windows with the highest mean kidney and tumor Dice, over all pairs of bounds 5 HU apart.

    Args:
        cases: pairs of image (z, y, x) in HU and label map; read once, one at a time.
        labels: meaning of the values of the label maps.

    Raises:
        InputError: no case has a kidney, no case has a tumor, or shapes differ.
    """
    return fit_window_rule_to_counts(hu_counts(image, label, labels) for image, label in cases)


def fit_window_rule_to_counts(counts: Iterable[HuCounts]) -> WindowRule:
    """Return `fit_window_rule` of counted cases; among equals the lower, then the narrower window is chosen."""
    # A list, because kidney and tumor are fitted one after the other and an iterator can be read only once.
    cases = list(counts)
    kidney_hu, kidney_dice = _best_window(cases, _KIDNEY)
    tumor_hu, tumor_dice = _best_window(cases, _TUMOR)
    return WindowRule(kidney_hu, tumor_hu, kidney_dice, tumor_dice)


def _holding(counts: Iterable[HuCounts], label: int) -> list[HuCounts]:
    cases = [case for case in counts if case[:, label].any()]
    if not cases:
        raise InputError(f"no case has a {_NAMES[label]}; fit intensity rules on cases that have one")
    return cases


def _threshold_dice(case: HuCounts) -> NDArray[np.float64]:
    """Return the tumor Dice (2, 702) of each threshold from -200 to 501 HU: voxels below it, voxels from it on."""
    cumulative = np.concatenate([np.zeros((1, _NUM_TISSUES)), case.cumsum(axis=0)])
    below = cumulative[:, _TUMOR]
    total = cumulative[-1, _TUMOR]
    called = cumulative[:, _KIDNEY] + below
    found = np.stack([below, total - below])
    # The total is not 0, because cases without a tumor were left out.
    return np.asarray(2 * found / (np.stack([called, called[-1] - called]) + total), dtype=np.float64)


def _best_window(counts: list[HuCounts], label: int) -> tuple[Window, float]:
    dice = np.mean([_window_dice(case, label) for case in _holding(counts, label)], axis=0)
    low, high = np.unravel_index(int(dice.argmax()), dice.shape)
    window = (int(low) * WINDOW_STRIDE_HU + _HU_LOW, int(high) * WINDOW_STRIDE_HU + _HU_LOW)
    return window, float(dice[low, high])


def _window_dice(case: HuCounts, label: int) -> NDArray[np.float64]:
    """Return the Dice (141, 141) of a label for each pair of bounds; 0 or less where high <= low."""
    edges = np.arange(0, _HU_HIGH - _HU_LOW + 1, WINDOW_STRIDE_HU)
    below = np.concatenate([np.zeros((1, _NUM_TISSUES)), case.cumsum(axis=0)])[edges]
    below[-1] = case.sum(axis=0)  # so that the last window includes HU 500
    found = below[None, :, label] - below[:, None, label]
    every = below.sum(axis=1)
    called = every[None, :] - every[:, None]
    # `abs` keeps the denominator above 0 for reversed bounds; `where` removes their values.
    return np.asarray(np.where(called > 0, 2 * found / (np.abs(called) + below[-1, label]), 0.0), dtype=np.float64)
