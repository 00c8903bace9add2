"""Tests of the signature by which a copy of a scan is recognised."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from renalnet.data.checks.signature import HU_STEP, LENGTH, coarse_signature, to_hu
from renalnet.types import HuArray

BOXES = arrays(np.int16, st.tuples(*[st.integers(1, 12)] * 3), elements=st.integers(-1024, 3000))


def cells(box: HuArray) -> np.ndarray:
    return to_hu(np.frombuffer(bytes.fromhex(coarse_signature(box)), np.uint8))


@given(BOXES, st.sets(st.integers(0, 2)))
def test_flips_change_nothing_but_rounding(box: HuArray, axes: set[int]) -> None:
    difference = cells(np.flip(box, tuple(axes))) - cells(box)
    assert np.abs(difference).max() <= 1.01 * HU_STEP


@given(BOXES, st.tuples(*[st.integers(1, 3)] * 3))
def test_finer_voxels_of_the_same_image_change_nothing_but_rounding(box: HuArray, factors: tuple[int, ...]) -> None:
    fine = box
    for axis, factor in enumerate(factors):
        fine = fine.repeat(factor, axis)
    assert np.abs(cells(fine) - cells(box)).max() <= 1.01 * HU_STEP


def test_cells_are_means_over_mirrored_places() -> None:
    """One of 8×8×8 voxels has 300 HU, the others -100; its cell is folded with seven others."""
    box = np.full((8, 8, 8), -100, np.int16)
    box[0, 1, 2] = 300
    found = cells(box).reshape(4, 4, 4)
    assert abs(found[0, 1, 2] - (-100 + 400 / 8)) <= HU_STEP
    rest = np.delete(found.ravel(), np.ravel_multi_index((0, 1, 2), (4, 4, 4)))
    assert len(rest) == LENGTH - 1
    assert np.abs(rest + 100).max() <= HU_STEP


def test_intensities_outside_the_range_count_as_its_ends() -> None:
    assert np.allclose(cells(np.full((3, 3, 3), -1024, np.int16)), -200)
    assert np.allclose(cells(np.full((3, 3, 3), 3000, np.int16)), 300)
