"""Checks of orientation and spacing: bodies cut at their sides, lungs at the feet, kidneys of a wrong shape."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.validation_cases import painted_abdomens, sound_case, sound_facts

from renalnet.data.cases.loading import LoadedCase
from renalnet.data.checks.case_checks import check_case, judge
from renalnet.data.checks.shape_checks import PLAUSIBLE_ELONGATION
from renalnet.data.checks.shape_facts import elongation, face_shares, lung_shares
from renalnet.data.images.volume import Grid, Volume, read_volume
from renalnet.types import Triple

SOUND = sound_facts()


def test_the_shares_of_the_faces_are_those_of_their_emptier_end() -> None:
    # 50 of 60 rows and 90 of 100 columns of the first and the last slice are body.
    assert (SOUND.tissue_z, SOUND.tissue_y, SOUND.tissue_x) == (0.75, 0.0, 0.0)
    image = np.full((2, 4, 5), -1000, np.int16)
    image[0] = 40
    image[:, 0] = 40
    # One row of four of the last slice; nothing at the back; the first slice and the first row at each side.
    assert face_shares(image) == (0.25, 0.5, 0.625)


def test_lung_counts_between_tissue_and_only_there() -> None:
    image = np.full((20, 8, 10), -1000, np.int16)
    image[:, ::4, 1] = image[:, ::4, 8] = 40
    image[:, ::4, 9] = -850
    image[18:, ::4, 2:7] = -850
    image[:2, ::4, 3] = -850
    image[:2, ::4, 4] = -960
    # A tenth of the slices is two; a row has two voxels of tissue.
    assert lung_shares(image) == (0.5, 2.5)
    assert lung_shares(np.full((5, 4, 4), -1000, np.int16)) == (0.0, 0.0)


def test_the_elongation_is_a_ratio_of_lengths() -> None:
    box = np.zeros((30, 12, 12), bool)
    box[:24, :10, :10] = True
    # The deviation of n places is sqrt((n² - 1) / 12).
    assert elongation(box, (1.0, 1.0, 1.0)) == pytest.approx(((24**2 - 1) / (10**2 - 1)) ** 0.5, rel=1e-3)
    assert elongation(box, (2.0, 1.0, 1.0)) == pytest.approx(2 * ((24**2 - 1) / (10**2 - 1)) ** 0.5, rel=1e-3)
    assert elongation(box[:2, :9, :9], (1.0, 1.0, 1.0)) is None
    assert elongation(np.zeros((3, 3, 3), bool), (1.0, 1.0, 1.0)) is None
    line = np.zeros((300, 1, 1), bool)
    line[:] = True
    assert elongation(line, (1.0, 1.0, 1.0)) is None


FACTS: list[tuple[dict[str, Any], str, str]] = [
    ({"tissue_z": 0.01, "tissue_x": 0.2}, "error wrong-axes", "the slices seem to lie along that axis"),
    ({"tissue_z": 0.01, "tissue_y": 0.2}, "error wrong-axes", "from front to back and ends in air"),
    ({"lung_feet": 0.6, "lung_head": 0.1}, "error wrong-axes", "60% of the lowest slices is lung, and 10% of the"),
    ({"elongation_left": 2.5, "elongation_right": 2.9}, "warning wrong-spacing", "too long for their width (ratio 2.5"),
    ({"elongation_left": 3.1, "elongation_right": 3.5}, "error wrong-spacing", "the slices seem to be too far apart"),
    ({"elongation_left": 0.7, "elongation_right": 0.5}, "warning wrong-spacing", "not 0.8 to 2.4)"),
    ({"elongation_left": None, "elongation_right": 0.3}, "error wrong-spacing", "too close together; compare the"),
]


@pytest.mark.parametrize(("changes", "expected", "words"), FACTS)
def test_a_wrong_geometry_is_named(changes: dict[str, Any], expected: str, words: str) -> None:
    (finding,) = judge(replace(SOUND, **changes))
    assert f"{finding.level} {finding.code}" == expected
    assert words in finding.message


PLAUSIBLE: list[dict[str, Any]] = [
    {"tissue_z": 0.3, "tissue_x": 0.4},
    {"lung_feet": 0.1, "lung_head": 0.05},
    {"lung_feet": 0.25, "lung_head": 0.0},
    {"elongation_left": 3.7, "elongation_right": 1.9},
    {"elongation_left": 2.35, "elongation_right": None},
    {"elongation_left": 0.4, "elongation_right": None, "is_cut": True},
    {"tissue_z": 0.0, "tissue_x": 0.9, "lung_feet": 1.0, "lung_head": 0.0, "is_cut": True},
    {"tissue_z": None, "tissue_x": None, "lung_feet": None, "lung_head": None},
]


@pytest.mark.parametrize("changes", PLAUSIBLE)
def test_what_a_sound_scan_may_show_is_no_wrong_geometry(changes: dict[str, Any]) -> None:
    assert not [one for one in judge(replace(SOUND, **changes)) if one.code.startswith("wrong")]


def test_the_part_of_a_cut_kidney_says_nothing_about_the_spacing() -> None:
    facts = replace(SOUND, elongation_left=0.5, elongation_right=0.5, label_faces="feet")
    assert [one.code for one in judge(facts)] == ["label-cut"]


@pytest.mark.parametrize(
    ("spacing_mm", "words"),
    [
        ((2.5, 2.5, 3.0), "2.5×3 mm are not square: the slices seem to lie along the axis from right to left"),
        ((2.5, 3.0, 2.5), "3×2.5 mm are not square: the slices seem to lie along the axis from front to back"),
        ((5.0, 3.0, 1.8), "3×1.8 mm are not square; check the header"),
    ],
)
def test_two_equal_spacings_are_those_of_the_pixels(spacing_mm: Triple, words: str) -> None:
    names = ("spacing_z_mm", "spacing_y_mm", "spacing_x_mm")
    (finding,) = judge(replace(SOUND, **dict(zip(names, spacing_mm, strict=True))))
    assert finding.code == "spacing-pixels"
    assert words in finding.message


Change = Callable[[NDArray[Any]], NDArray[Any]]


def changed(loaded: LoadedCase, change: Change, spacing_mm: Triple) -> LoadedCase:
    """Return the case as a reader would see it under a wrong affine."""
    image, label = (np.ascontiguousarray(change(each.array)) for each in (loaded.image, loaded.label))
    grid = Grid.axis_aligned((image.shape[0], image.shape[1], image.shape[2]), spacing_mm)
    return replace(loaded, image=Volume(image, grid), label=Volume(label, grid), source=grid)


def z_times(factor: float) -> Callable[[Triple], Triple]:
    return lambda spacing_mm: (spacing_mm[0] * factor, spacing_mm[1], spacing_mm[2])


WRONG: dict[str, tuple[Change, Callable[[Triple], Triple], str]] = {
    "upside down": (lambda array: array[::-1], z_times(1), "error wrong-axes"),
    "axes as z, y, x": (lambda array: array.swapaxes(0, 2), z_times(1), "error wrong-axes"),
    "axes and spacing as z, y, x": (lambda array: array.swapaxes(0, 2), lambda mm: mm[::-1], "error wrong-axes"),
    "axes as y, z, x": (lambda array: array.swapaxes(0, 1), z_times(1), "error wrong-axes"),
    "six times too thin": (lambda array: array, z_times(1 / 6), "error wrong-spacing"),
    "four times too thick": (lambda array: array, z_times(4), "error wrong-spacing"),
    "twice too thick": (lambda array: array, z_times(2), "wrong-spacing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRONG)
def test_painted_scans_under_a_wrong_affine_are_errors(kind: str) -> None:
    change, spacing, expected = WRONG[kind]
    for loaded in painted_abdomens():
        findings = check_case(changed(loaded, change, spacing(loaded.image.grid.spacing_mm)))[1]
        found = {f"{finding.level} {finding.code}" for finding in findings}
        assert any(each.endswith(expected) for each in found), loaded.case


@pytest.mark.slow
def test_real_kidneys_are_plausible_and_most_stretched_ones_are_not(real_data: Path) -> None:
    low, high = PLAUSIBLE_ELONGATION
    files = sorted(real_data.glob("kits*_rois/*/*.nii.gz"))
    kidneys = [read_volume(file) for file in files]
    found = [elongation(kidney.array > 0, kidney.grid.spacing_mm) for kidney in kidneys]
    values = np.array([value for value in found if value is not None])
    assert len(values) == len(files) == 249
    assert low < values.min() and values.max() < high
    assert (2 * values > high).mean() > 0.9


def test_a_sound_case_is_not_upside_down() -> None:
    assert check_case(sound_case())[1] == []
