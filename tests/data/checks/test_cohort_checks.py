"""Tests of the checks across cases: duplicates, outliers, and splits without cases or tumors."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.validation_cases import paint_all, painted_abdomens, painted_rois, sound_facts

from renalnet.data.cases.findings import COHORT, Finding
from renalnet.data.cases.loading import LoadedCase
from renalnet.data.checks.case_checks import check_case
from renalnet.data.checks.case_facts import measure_case
from renalnet.data.checks.cohort_checks import check_cohort
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.images.resampling import covering_grid, regrid_image, regrid_label
from renalnet.data.images.volume import Grid, Volume
from renalnet.types import SPLITS, Split

SOUND = replace(sound_facts(), roi_ml=500.0, roi_kidney_ml=90.0, roi_tumor_ml=12.0)
SPLITS_OF_TEN: tuple[Split, ...] = ("train",) * 3 + ("validation",) * 5 + ("test",) * 2


def distinct(number: int, **changes: Any) -> CaseFacts:
    """Return the facts of a patient unlike all others."""
    signature = np.random.default_rng(number).integers(0, 256, 64, dtype=np.uint8).tobytes().hex()
    own = {"case": f"case_{number}", "image_digest": f"{number:064x}", "label_digest": f"{number + 1000:064x}"}
    return replace(SOUND, **{**own, "signature": signature, **changes})


def ten(**changes_of_nine: Any) -> list[CaseFacts]:
    """Return the facts of ten patients; the changes apply to the last one."""
    return [*(distinct(number) for number in range(9)), distinct(9, **changes_of_nine)]


def check(facts: Iterable[CaseFacts], splits: Iterable[Split] = SPLITS_OF_TEN) -> list[Finding]:
    listed = list(facts)
    return check_cohort(iter(listed), dict(zip([one.case for one in listed], splits, strict=False)))


def test_ten_patients_in_three_splits_are_sound() -> None:
    assert check(ten()) == []


@pytest.mark.parametrize(("split", "level"), [("train", "error"), ("test", "error")])
def test_the_same_image_is_an_error_in_any_split(split: Split, level: str) -> None:
    facts = [distinct(0), distinct(1, image_digest=f"{0:064x}")]
    (finding,) = [one for one in check(facts, ["train", split]) if one.code.startswith("duplicate")]
    assert (finding.level, finding.code) == (level, "duplicate-image")
    assert finding.case == ("case_1" if split == "train" else "case_0")


@pytest.mark.parametrize(("split", "level"), [("train", "warning"), ("validation", "error"), ("test", "error")])
def test_the_same_label_on_another_image(split: Split, level: str) -> None:
    facts = [distinct(0), distinct(1, label_digest=f"{1000:064x}")]
    (finding,) = [one for one in check(facts, ["train", split]) if one.code.startswith("duplicate")]
    assert (finding.level, finding.code) == (level, "duplicate-label")


def test_the_finding_names_the_training_case_not_the_test_case() -> None:
    """The test cases stay as they are, whichever copy is left out."""
    facts = [distinct(number, image_digest="0" * 64) for number in range(3)]
    found = [one for one in check(facts, ["train", "validation", "test"]) if one.code == "duplicate-image"]
    assert [one.case for one in found] == ["case_1", "case_0"]
    assert all("case 'case_2' (test" in one.message for one in found)


def test_the_finding_names_the_new_copy_not_the_case_of_the_store() -> None:
    facts = [distinct(number, image_digest="0" * 64) for number in range(2)]
    splits: dict[str, Split] = {"case_0": "train", "case_1": "test"}
    found = [one for one in check_cohort(facts, splits, kept={"case_0"}) if one.code == "duplicate-image"]
    assert [one.case for one in found] == ["case_1"]


def test_empty_label_maps_are_not_duplicates() -> None:
    empty = {"label_digest": "0" * 64, "signature": "", "roi_ml": 0.0, "roi_kidney_ml": 0.0}
    facts = [distinct(number, **empty) for number in range(2)]
    assert not [one for one in check(facts, ["train", "test"]) if one.code.startswith("duplicate")]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"roi_kidney_ml": SOUND.roi_kidney_ml * 1.02, "roi_tumor_ml": SOUND.roi_tumor_ml + 0.2}, True),
        ({"roi_kidney_ml": SOUND.roi_kidney_ml * 1.05}, False),
        ({"roi_tumor_ml": SOUND.roi_tumor_ml * 1.2}, False),
    ],
)
def test_a_copy_is_recognised_by_signature_and_volumes(changes: dict[str, float], found: bool) -> None:
    facts = [distinct(0), distinct(1, signature=distinct(0).signature, **changes)]
    assert ("duplicate-scan" in [one.code for one in check(facts, ["train", "test"])]) is found


def test_duplicates_are_found_beyond_the_first_block() -> None:
    facts = [distinct(number) for number in range(150)] + [distinct(500, signature=distinct(3).signature)]
    found = [one for one in check(facts, ["train"] * 151) if one.code.startswith("duplicate")]
    assert [(one.case, one.level, one.code) for one in found] == [("case_500", "warning", "duplicate-scan")]
    assert "'case_3'" in found[0].message


def flipped(loaded: LoadedCase) -> LoadedCase:
    image, label = (np.flip(part.array, (0, 2)) for part in (loaded.image, loaded.label))
    return replace(loaded, image=Volume(image, loaded.image.grid), label=Volume(label, loaded.image.grid))


def cropped(loaded: LoadedCase) -> LoadedCase:
    image, label = (part.array[3:-2, 4:-4, 1:-6] for part in (loaded.image, loaded.label))
    grid = Grid.axis_aligned(image.shape, loaded.image.grid.spacing_mm)
    return replace(loaded, image=Volume(image, grid), label=Volume(label, grid))


def thick(loaded: LoadedCase) -> LoadedCase:
    grid = covering_grid(loaded.image.grid, (5.0, 1.0, 1.0))
    image = regrid_image(loaded.image, grid, -1024)
    label = regrid_label(loaded.label, grid)
    return replace(loaded, image=image, label=label)


def noisy(loaded: LoadedCase) -> LoadedCase:
    noise = np.random.default_rng(0).normal(0, 10, loaded.image.array.shape)
    return replace(loaded, image=Volume(np.rint(loaded.image.array + noise).astype(np.int16), loaded.image.grid))


@pytest.mark.slow
@pytest.mark.parametrize("export", [flipped, cropped, thick, noisy])
def test_a_scan_exported_again_is_recognised_among_other_patients(export: Callable[[LoadedCase], LoadedCase]) -> None:
    patients = painted_abdomens()
    again = measure_case(replace(export(patients[2]), case="again"))
    facts = [*(measure_case(one) for one in patients), again]
    splits: dict[str, Split] = {"p0": "train", "p1": "train", "p2": "train", "again": "test"}
    found = [one for one in check_cohort(facts, splits) if one.code.startswith("duplicate")]
    assert [(one.case, one.level) for one in found] == [("p2", "error")]
    assert "'again' (test, this one train)" in found[0].message


@pytest.mark.slow
def test_real_kidneys_are_all_different(real_data: Path) -> None:
    facts = [measure_case(one) for one in painted_rois(real_data / "kits19_rois" / "test")]
    splits: dict[str, Split] = dict(zip([one.case for one in facts], SPLITS, strict=True))
    assert not [one for one in check_cohort(facts, splits) if one.code.startswith("duplicate")]


@pytest.mark.slow
def test_a_cohort_of_twenty_real_kidneys_has_no_findings(real_data: Path) -> None:
    checked = [check_case(one) for one in paint_all(real_data / "kits19_rois" / "test")]
    facts = [one for one, _ in checked]
    splits: dict[str, Split] = {one.case: SPLITS[number % 3] for number, one in enumerate(facts)}
    assert [findings for _, findings in checked] == [[]] * 20
    assert check_cohort(facts, splits) == []


ODD_ONES: list[tuple[dict[str, Any], str, str]] = [
    ({"spacing_z_mm": 5.5}, "spacing-outlier", "spacing 5.5×3×3 mm, the cohort's median is 3×3×3"),
    ({"spacing_x_mm": 1.5}, "spacing-outlier", "spacing 3×3×1.5 mm"),
    ({"roi_kidney_ml": 300.0}, "kidney-volume-outlier", "kidney of 300 ml, the cohort's median is 90"),
    ({"roi_kidney_ml": 40.0}, "kidney-volume-outlier", "kidney of 40 ml"),
]


@pytest.mark.parametrize(("changes", "code", "words"), ODD_ONES)
def test_a_case_unlike_the_others_is_a_warning(changes: dict[str, Any], code: str, words: str) -> None:
    (finding,) = check(ten(**changes))
    assert (finding.case, finding.level, finding.code) == ("case_9", "warning", code)
    assert words in finding.message


@pytest.mark.parametrize("changes", [{"spacing_z_mm": 4.5}, {"roi_kidney_ml": 130.0}])
def test_usual_variation_gives_no_finding(changes: dict[str, Any]) -> None:
    assert check(ten(**changes)) == []


def test_too_few_cases_have_no_outliers() -> None:
    facts = [distinct(number) for number in range(3)] + [distinct(3, roi_kidney_ml=400.0, roi_tumor_ml=0.0)]
    assert cohort_codes(check(facts, ["train", "train", "validation", "test"])) == ["split-few"]


def cohort_codes(findings: list[Finding]) -> list[str]:
    assert all(one.level == "warning" for one in findings if one.case == COHORT)
    return [one.code for one in findings if one.case == COHORT]


def test_class_shares_far_from_the_papers_are_a_warning() -> None:
    small = [distinct(number, roi_tumor_ml=SOUND.roi_ml * 0.01) for number in range(10)]
    (finding,) = check(small)
    assert (finding.case, finding.code) == (COHORT, "class-shares")
    assert "tumor fills 1.00% of the ROIs, the paper has 2.43%" in finding.message


def test_unenhanced_cases_are_counted_and_named() -> None:
    (finding,) = check(ten(phase="unenhanced"))
    assert finding.code == "phase"
    assert finding.message.startswith("1 of 10 cases look unenhanced (case_9)")


def test_splits_without_cases_or_tumors_are_warnings() -> None:
    facts = [distinct(number, tumor_ml=SOUND.tumor_ml if number < 8 else 0.0) for number in range(10)]
    assert cohort_codes(check(facts)) == ["split-no-tumor"]
    assert cohort_codes(check(ten(), ["train"] * 10)) == ["split-empty", "split-empty"]


def test_few_validation_cases_are_a_warning_that_names_the_folds() -> None:
    splits: list[Split] = ["train"] * 4 + ["validation"] * 4 + ["test"] * 2
    (finding,) = check(ten(), splits)
    assert (finding.code, finding.level) == ("split-few", "warning")
    assert "4 validation cases, fewer than 5" in finding.message and "final.folds=5" in finding.message


def test_an_empty_cohort_has_empty_splits_only() -> None:
    assert cohort_codes(check([])) == ["split-empty"] * 3
