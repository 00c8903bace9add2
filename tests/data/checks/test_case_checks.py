"""Tests of the plausibility checks of a single case."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.label_values import KIDNEY, TUMOR
from support.validation_cases import (
    SHAPE,
    painted_abdomens,
    painted_rois,
    sound_case,
    sound_facts,
    with_image,
    with_label,
)

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.cases.findings import Finding
from renalnet.data.cases.loading import LoadedCase, load_scan
from renalnet.data.checks.case_checks import check_case, judge
from renalnet.data.images.volume import Grid, Volume, canonical, read_volume
from renalnet.types import HuArray, LabelArray

SOUND = sound_facts()


def codes(findings: list[Finding]) -> list[str]:
    return [f"{finding.level} {finding.code}" for finding in findings]


def test_a_sound_case_has_no_findings() -> None:
    facts, findings = check_case(sound_case())
    assert (facts, findings) == (SOUND, [])


def fill(label: LabelArray) -> LabelArray:
    return np.where(label > 0, TUMOR, 0)


def speckle(label: LabelArray) -> LabelArray:
    label[1:40:3, 50, 20:80:20] = KIDNEY
    return label


def eighth_bit(image: HuArray) -> HuArray:
    return np.clip((image + 200) * (255 / 700), 0, 255)


def magnetic(image: HuArray) -> HuArray:
    """An MR image: no signal of air, fat brighter than kidney."""
    return np.select([image < -500, image < 0, image > 500], [3, 900, 50], 400)


IMAGES: list[tuple[Callable[[HuArray], HuArray], list[str]]] = [
    (lambda image: np.full_like(image, 5), ["error image-constant"]),
    (lambda image: np.rint((image + 1000) / 1800), ["error hu-scale"]),
    (eighth_bit, ["error hu-8bit"]),
    (lambda image: image + 1024, ["error hu-offset"]),
    (lambda image: np.maximum(image - 1024, -1024), ["error hu-offset"]),
    (lambda image: np.maximum(image * 4, -1024), ["error hu-scale"]),
    (lambda image: np.maximum(image * 2, -1024), ["warning hu-fat"]),
    (lambda image: np.clip(image, 0, 500), ["error not-ct"]),
    (lambda image: np.clip(image, -49, 500), ["error not-ct"]),
    (lambda image: np.clip(image, -160, 500), ["warning hu-no-air"]),
    (magnetic, ["error not-ct"]),
    (lambda image: 2 * magnetic(image), ["error not-ct"]),
    (lambda image: np.clip(image, -1024, 140), ["warning hu-max"]),
]
LABELS: list[tuple[Callable[[LabelArray], LabelArray], list[str]]] = [
    (np.zeros_like, ["error label-empty"]),
    (lambda label: np.roll(label, -10, axis=1), ["error label-shifted"]),
    (lambda label: np.roll(label, 4, axis=1), ["warning label-shifted"]),
    (lambda label: np.roll(label, 8, axis=0), ["warning label-cut"]),
    (speckle, ["warning label-fragments"]),
    (fill, ["warning label-no-kidney"]),
]


@pytest.mark.parametrize(("change", "expected"), IMAGES)
def test_images_that_are_not_ct(change: Callable[[HuArray], HuArray], expected: list[str]) -> None:
    assert codes(check_case(with_image(sound_case(), change))[1]) == expected


@pytest.mark.parametrize(("change", "expected"), LABELS)
def test_labels_that_cannot_be_right(change: Callable[[LabelArray], LabelArray], expected: list[str]) -> None:
    assert set(expected) <= set(codes(check_case(with_label(sound_case(), change))[1]))


FACTS: list[tuple[dict[str, Any], str, str]] = [
    ({"spacing_z_mm": 30.0}, "error spacing-range", r"spacing 30×3×3 mm outside 0.1 to 10; correct"),
    ({"spacing_y_mm": 0.05, "spacing_x_mm": 0.05}, "error spacing-range", "spacing 3×0.05×0.05 mm outside"),
    ({"spacing_z_mm": 9.0, "spacing_y_mm": 0.8, "spacing_x_mm": 0.8}, "warning spacing-anisotropic", "9×0.8×0.8 mm"),
    ({"spacing_y_mm": 2.5}, "warning spacing-pixels", "pixels of 2.5×3 mm are not square"),
    ({"num_slices": 15, "spacing_z_mm": 6.0}, "warning few-slices", "15 slices, 90 mm"),
    ({"num_slices": 20}, "warning few-slices", "20 slices, 60 mm"),
    ({"air_share": 0.97}, "warning hu-air", "97% of the image is air"),
    ({"kidney_hu": 550.0}, "warning kidney-hu", "kidney mean 550 HU, not within 0 to 500"),
    ({"kidney_hu": -20.0}, "warning kidney-hu", "kidney mean -20 HU"),
    ({"kidney_right_ml": 25.0}, "warning kidney-volume", "right kidney of 25.0 ml, not 30 to 400"),
    ({"kidney_left_ml": 380.0, "kidney_right_ml": 410.0}, "warning kidney-volume", "right kidney of 410.0 ml"),
    ({"kidney_left_ml": 390.0}, "warning left-right", "kidneys of 97.2 and 390.0 ml, one more than 4 times"),
    ({"midline_offset_mm": -45.0}, "warning left-right", "45 mm too far to the right"),
    ({"tumor_ml": 0.3}, "warning tumor-volume", "tumor of 0.30 ml, not 1 to 500"),
    ({"tumor_detached_ml": 2.0}, "warning tumor-detached", "2.0 ml of tumor touch no kidney"),
]


@pytest.mark.parametrize(("changes", "expected", "words"), FACTS)
def test_a_fact_out_of_range_is_named_with_its_value(changes: dict[str, Any], expected: str, words: str) -> None:
    (finding,) = judge(replace(SOUND, **changes))
    assert codes([finding]) == [expected]
    assert words in finding.message
    assert "\n" not in finding.message


def test_one_kidney_of_a_whole_scan_is_sound() -> None:
    assert judge(replace(SOUND, kidney_right_ml=0.0, midline_offset_mm=None)) == []


def test_an_error_hides_the_warnings_that_follow_from_it() -> None:
    assert codes(judge(replace(SOUND, spacing_z_mm=30.0, tumor_ml=0.3))) == ["error spacing-range"]


@pytest.mark.slow
def test_painted_abdomens_are_sound() -> None:
    assert [check_case(one)[1] for one in painted_abdomens()] == [[], [], []]


@pytest.mark.slow
def test_painted_rois_of_real_kidneys_are_sound(real_data: Path) -> None:
    rois = painted_rois(real_data / "kits19_rois" / "test")
    checked = [check_case(one) for one in rois]
    assert [findings for _, findings in checked] == [[], [], []]
    assert all(facts.is_cut for facts, _ in checked)


def real_ct(folder: Path) -> LoadedCase:
    image, source = load_scan(folder / "example_ct.nii.gz")
    label = sum(read_volume(folder / f"kidney_{side}.nii.gz").array for side in ("left", "right")) > 0
    return LoadedCase(
        "real", image, canonical(Volume(label.astype(np.uint8), source), is_label=True), source, KIDNEY_TUMOR
    )


def test_a_real_unenhanced_ct_has_no_findings(real_data: Path) -> None:
    facts, findings = check_case(real_ct(real_data / "ct" / "totalsegmentator"))
    assert findings == []
    assert (facts.phase, facts.oblique) == ("unenhanced", False)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_label_on_a_real_ct_is_found(real_data: Path, axis: int) -> None:
    loaded = real_ct(real_data / "ct" / "totalsegmentator")
    findings = check_case(with_label(loaded, lambda label: np.flip(label, axis)))[1]
    assert "warning label-shifted" in codes(findings)


def test_facts_do_not_depend_on_the_memory_order() -> None:
    """Facts do not depend on the memory order of the voxels."""
    loaded = sound_case()
    grid = Grid.axis_aligned(SHAPE, (3.0, 3.0, 3.0))
    turned = LoadedCase(
        "a",
        Volume(np.asfortranarray(loaded.image.array), grid),
        Volume(np.asfortranarray(loaded.label.array), grid),
        grid,
        KIDNEY_TUMOR,
    )
    assert check_case(turned)[0] == SOUND
