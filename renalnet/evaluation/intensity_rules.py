"""Two rules that see nothing but CT numbers: how far a cohort can be segmented without a network.

Both are fitted exactly, from per-case counts of voxels by HU and label, so that no image stays in memory.
A case without a voxel of a label says nothing about a rule for that label and is left out of its mean.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.errors import InputError
from renalnet.types import BACKGROUND, KIDNEY, LABEL_NAMES, NUM_CLASSES, TUMOR, HuArray, LabelArray

HU_LOW: Final = -200
HU_HIGH: Final = 500
"""CT numbers are clipped to [-200, 500] before a rule sees them, as they are before a network does."""
WINDOW_STEP_HU: Final = 5

HuCounts: TypeAlias = NDArray[np.int64]
"""(701, 3): voxels of a case by clipped HU (row 0 is -200) and label."""
Window: TypeAlias = tuple[int, int]


def hu_counts(image: HuArray, label: LabelArray) -> HuCounts:
    """Count the voxels of one case by HU and label.

    Args:
        image: (z, y, x) HU.
        label: (z, y, x) labels 0, 1, 2.

    Raises:
        InputError: the shapes differ.
    """
    if image.shape != label.shape:
        raise InputError(f"image {image.shape} and label {label.shape} differ in shape; pair arrays of one grid")
    num_hu = HU_HIGH - HU_LOW + 1
    rows = np.clip(image, HU_LOW, HU_HIGH).astype(np.int64) - HU_LOW
    counts = np.bincount((rows * NUM_CLASSES + label).ravel(), minlength=num_hu * NUM_CLASSES)
    return counts.reshape(num_hu, NUM_CLASSES)


@dataclass(frozen=True)
class InsideRule:
    """Inside the *true* region of kidney and tumor, one threshold tells tumor from kidney."""

    threshold_hu: int
    below: bool
    """Whether tumor is HU < threshold (else HU >= threshold)."""
    tumor_dice: float
    """Mean tumor Dice over the cases it was fitted on that hold a tumor."""

    def apply(self, image: HuArray, label: LabelArray) -> LabelArray:
        """Labels (z, y, x) of the rule; `label` lends the region and nothing else."""
        clipped = np.clip(image, HU_LOW, HU_HIGH)
        tumor = clipped < self.threshold_hu if self.below else clipped >= self.threshold_hu
        inside = np.where(tumor, TUMOR, KIDNEY)
        return np.where(label == BACKGROUND, BACKGROUND, inside).astype(np.uint8)


@dataclass(frozen=True)
class WindowRule:
    """Over the whole region of interest, one window of HU each is called kidney and tumor.

    A window (low, high) holds low <= HU < high after clipping; bounds of -200 and 500 take in all beyond.
    Where the windows overlap the voxel is tumor, so that `tumor_dice` is exactly what the rule reaches.
    """

    kidney_hu: Window
    tumor_hu: Window
    kidney_dice: float
    """Mean kidney Dice of the kidney window alone, before tumor is laid over it."""
    tumor_dice: float
    """Mean tumor Dice over the fitted cases that hold a tumor."""

    def apply(self, image: HuArray, label: LabelArray | None = None) -> LabelArray:
        """Labels (z, y, x) of the rule; `label` is not looked at, it makes the two rules interchangeable."""
        del label
        clipped = np.clip(image, HU_LOW, HU_HIGH - 1)
        kidney, tumor = ((clipped >= low) & (clipped < high) for low, high in (self.kidney_hu, self.tumor_hu))
        return np.where(tumor, TUMOR, np.where(kidney, KIDNEY, BACKGROUND)).astype(np.uint8)


def fit_inside_rule(cases: Iterable[tuple[HuArray, LabelArray]]) -> InsideRule:
    """The threshold and direction of largest mean tumor Dice over the cases that hold a tumor.

    Args:
        cases: (image HU, label) pairs; read once, one at a time.

    Raises:
        InputError: no case holds a tumor, or shapes differ.
    """
    return fit_inside_rule_to_counts(hu_counts(image, label) for image, label in cases)


def fit_inside_rule_to_counts(counts: Iterable[HuCounts]) -> InsideRule:
    """`fit_inside_rule` on cases counted before; equal values prefer `below`, then the lower threshold."""
    cases = _holding(counts, TUMOR)
    dice = np.mean([_threshold_dice(case) for case in cases], axis=0)
    direction, row = np.unravel_index(int(dice.argmax()), dice.shape)
    return InsideRule(int(row) + HU_LOW, bool(direction == 0), float(dice[direction, row]))


def fit_window_rule(cases: Iterable[tuple[HuArray, LabelArray]]) -> WindowRule:
    """The windows of largest mean kidney and tumor Dice, over all pairs of bounds 5 HU apart.

    Args:
        cases: (image HU, label) pairs; read once, one at a time.

    Raises:
        InputError: no case holds a kidney, or none a tumor, or shapes differ.
    """
    return fit_window_rule_to_counts(hu_counts(image, label) for image, label in cases)


def fit_window_rule_to_counts(counts: Iterable[HuCounts]) -> WindowRule:
    """`fit_window_rule` on cases counted before; equal values prefer the lower, then the narrower window."""
    cases = list(counts)
    (kidney_hu, kidney_dice), (tumor_hu, tumor_dice) = (_best_window(cases, label) for label in (KIDNEY, TUMOR))
    return WindowRule(kidney_hu, tumor_hu, kidney_dice, tumor_dice)


def _holding(counts: Iterable[HuCounts], label: int) -> list[HuCounts]:
    cases = [case for case in counts if case[:, label].any()]
    if not cases:
        raise InputError(f"no case holds a {LABEL_NAMES[label]}; an intensity rule is fitted on cases that do")
    return cases


def _threshold_dice(case: HuCounts) -> NDArray[np.float64]:
    """(2, 702) tumor Dice of a threshold at each HU from -200 to 501: voxels below it, voxels from it on."""
    cumulative = np.concatenate([np.zeros((1, NUM_CLASSES)), case.cumsum(axis=0)])
    below, total = cumulative[:, TUMOR], cumulative[-1, TUMOR]
    called = cumulative[:, KIDNEY] + below
    found = np.stack([below, total - below])
    return np.asarray(2 * found / (np.stack([called, called[-1] - called]) + total), dtype=np.float64)


def _best_window(counts: list[HuCounts], label: int) -> tuple[Window, float]:
    dice = np.mean([_window_dice(case, label) for case in _holding(counts, label)], axis=0)
    low, high = np.unravel_index(int(dice.argmax()), dice.shape)
    window = int(low) * WINDOW_STEP_HU + HU_LOW, int(high) * WINDOW_STEP_HU + HU_LOW
    return window, float(dice[low, high])


def _window_dice(case: HuCounts, label: int) -> NDArray[np.float64]:
    """(141, 141) Dice of a label for each pair of bounds; where high <= low it is 0 or less."""
    edges = np.arange(0, HU_HIGH - HU_LOW + 1, WINDOW_STEP_HU)
    below = np.concatenate([np.zeros((1, NUM_CLASSES)), case.cumsum(axis=0)])[edges]
    below[-1] = case.sum(axis=0)  # the last window takes HU 500 too
    found = below[None, :, label] - below[:, None, label]
    every = below.sum(axis=1)
    called = every[None, :] - every[:, None]
    return np.asarray(np.where(called > 0, 2 * found / (np.abs(called) + below[-1, label]), 0.0), dtype=np.float64)
