"""Masks that no kidney has are named; a sound one is not."""

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.evaluation.plausibility import implausible
from renalnet.types import LabelArray

SPACING_MM = (10.0, 10.0, 10.0)
"""A voxel has 1 ml."""


def mask(kidney_ml: int, tumor_ml: int = 0) -> LabelArray:
    """Return a block of kidney, above it a block of tumor that touches it."""
    labels = np.zeros((14, 10, 10), np.uint8)
    labels[1:11].flat[:kidney_ml] = 1
    labels[0].flat[:tumor_ml] = 2
    return labels


def lines(labels: LabelArray) -> list[str]:
    return list(implausible(labels, SPACING_MM, KIDNEY_TUMOR, "left kidney"))


@pytest.mark.parametrize("labels", [mask(0), mask(30), mask(150), mask(400, 20)])
def test_a_plausible_mask_and_an_empty_one_have_no_line(labels: LabelArray) -> None:
    assert lines(labels) == []


def test_volumes_outside_the_ranges_of_the_checks_are_named() -> None:
    assert lines(mask(952)) == ["left kidney of 952.0 ml, outside the plausible range of 30 to 400 ml; check the mask"]
    assert lines(mask(29))[0].startswith("left kidney of 29.0 ml")
    small = np.zeros((4, 20, 20), np.uint8)
    small[:2] = 1
    small[2, 0, 0] = 2
    (line,) = implausible(small, (5.0, 5.0, 5.0), KIDNEY_TUMOR, "the kidney")
    assert line == "the kidney: tumor of 0.1 ml, outside the plausible range of 1 to 500 ml; check the mask"


def test_many_pieces_are_named_and_fragments_do_not_count() -> None:
    """Of 13 pieces of tumor, all lie within the kidney, which stays one piece; then apart from it."""
    labels = mask(400)
    inside = labels.copy()
    inside[2, 1::4, ::2][:, :3] = 2
    inside[4, 0, 1:9:2] = 2
    assert lines(inside) == ["left kidney: tumor in 13 pieces of 0.1 ml or more, more than 5; check the mask"]
    apart = mask(150)
    apart[6:14:2, 0, 0:4:2] = 1
    assert lines(apart) == ["left kidney in 9 pieces of 0.1 ml or more, more than 5; check the mask"]
    fragments = list(implausible(np.repeat(apart, 8, axis=0), (0.2, 5.0, 5.0), KIDNEY_TUMOR, "k"))
    assert not [line for line in fragments if "pieces" in line]
