"""`python -m renalnet plan` on mask files."""

import csv
import hashlib
import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.bodies import HALF_AXES_MM, Ball, kidney_with
from support.label_sets import ARTERY, CYST, VESSELS_YAML
from support.slicer_files import segment_pairs, write_cropped
from typer.testing import CliRunner

from renalnet.commands.app import app
from renalnet.commands.line import USER_ERROR
from renalnet.commands.plan import plan
from renalnet.config import KIDNEY_TUMOR
from renalnet.config.label_columns import flat
from renalnet.data.images.grid import Grid, Volume
from renalnet.data.images.volume import write_volume
from renalnet.errors import InputError
from renalnet.planning import MARGIN_MM, find_kidneys, measure_kidney, measures_of
from renalnet.planning.files import plan_mask

SPACING_MM = (3.0, 1.5, 1.5)
BALL = Ball((5.0, -26.0, 4.0), 12.0)


def two_kidneys() -> np.ndarray:
    """Return labels of two kidneys. The right one, at lower x, has a tumor."""
    right = kidney_with(BALL, SPACING_MM).labels
    left = np.minimum(right, 1)
    return np.concatenate([right, np.zeros((*right.shape[:2], 30), np.uint8), left], axis=2)


def write_mask(path: Path, labels: np.ndarray) -> Path:
    write_volume(path, Volume(labels, Grid.axis_aligned(labels.shape, SPACING_MM)))
    return path


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["plan", *map(str, arguments)], catch_exceptions=True)
    if isinstance(done.exception, InputError):
        return USER_ERROR, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_two_kidneys_are_told_apart():
    right, left = find_kidneys(two_kidneys(), SPACING_MM, KIDNEY_TUMOR)
    assert (right.side, left.side) == ("right", "left")
    assert right.tumor.any() and not left.tumor.any()


def test_a_stray_piece_belongs_to_the_nearer_kidney():
    labels = two_kidneys()
    labels[2:4, 2:4, 1:3] = 2
    right, left = find_kidneys(labels, SPACING_MM, KIDNEY_TUMOR)
    assert right.tumor.sum() > (two_kidneys() == 2).sum() and not left.tumor.any()


def test_an_empty_mask_has_no_kidney(tmp_path):
    assert find_kidneys(np.zeros((4, 5, 6), np.uint8), SPACING_MM, KIDNEY_TUMOR) == []
    code, output = run(write_mask(tmp_path / "empty.nii.gz", np.zeros((4, 5, 6), np.uint8)))
    assert code == 0 and "no kidney in this mask" in output


def test_the_sheet_on_the_terminal_and_as_files(tmp_path):
    code, output = run(write_mask(tmp_path / "mask.nii.gz", two_kidneys()), "--out", tmp_path / "sheet.json")
    assert code == 0
    for text in ("right", "left", "not given", "anterior", "not a medical device"):
        assert text in output
    sheet_file = json.loads((tmp_path / "sheet.json").read_text())
    right, left = sheet_file["sheets"]
    assert right["diameter_3d_mm"] == pytest.approx(24, rel=0.05)
    assert left["diameter_3d_mm"] is None and left["tumor_ml"] == 0
    assert left["kidney_length_mm"] == pytest.approx(2 * HALF_AXES_MM[0], rel=0.03)
    rows = list(csv.DictReader((tmp_path / "sheet.csv").read_text().splitlines()))
    assert [row["side"] for row in rows] == ["right", "left"] and rows[1]["face"] == ""


def with_cyst() -> np.ndarray:
    """Return the two kidneys with 24 voxels of cyst in the left one."""
    labels = two_kidneys()
    middle = np.array(np.nonzero(labels[:, :, -20:])).mean(axis=1).astype(int)
    z, y, x = middle[0], middle[1], labels.shape[2] - 20 + middle[2]
    labels[z : z + 2, y : y + 3, x : x + 4] = CYST
    return labels


def test_cysts_on_the_terminal_and_in_the_files(tmp_path):
    mask = write_mask(tmp_path / "mask.nii.gz", with_cyst())
    code, output = run(mask, "--labels", "kits23", "--out", tmp_path / "sheet.json")
    assert code == 0 and "Pieces of cyst" in output
    right, left = json.loads((tmp_path / "sheet.json").read_text())["sheets"]
    assert (right["cyst_ml"], right["num_cysts"]) == (0, 0)
    assert (left["cyst_ml"], left["num_cysts"]) == (pytest.approx(24 * 3 * 1.5 * 1.5 / 1000), 1)
    rows = list(csv.DictReader((tmp_path / "sheet.csv").read_text().splitlines()))
    assert [row["num_cysts"] for row in rows] == ["0", "1"]
    assert "Pieces of cyst" not in run(write_mask(tmp_path / "other.nii.gz", two_kidneys()))[1]


def test_the_labels_of_a_file(tmp_path):
    (tmp_path / "vessels.yaml").write_text(VESSELS_YAML)
    labels = with_cyst()
    labels[0, 0] = ARTERY
    mask = write_mask(tmp_path / "mask.nii.gz", labels)
    code, output = run(mask, "--labels", tmp_path / "vessels.yaml")
    assert code == 0 and "Pieces of cyst" in output and "artery" not in output
    assert run(mask, "--labels", "kits23")[0] == USER_ERROR


@pytest.mark.slow
def test_members_give_a_spread(tmp_path):
    mask = write_mask(tmp_path / "mask.nii.gz", two_kidneys())
    smaller = two_kidneys()
    smaller[:, : smaller.shape[1] // 4][smaller[:, : smaller.shape[1] // 4] == 2] = 1
    found = plan_mask(mask, [write_mask(tmp_path / "member.nii.gz", smaller)], 5.0)
    low, high = found.spreads[0]["tumor_ml"]
    assert low < high == pytest.approx(found.sheets[0].tumor_ml)
    code, output = run(mask, "--member", tmp_path / "member.nii.gz")
    assert code == 0 and " to " in output


@pytest.mark.slow
def test_a_cropped_segmentation_of_slicer_is_a_member(tmp_path):
    grid = Grid.axis_aligned(two_kidneys().shape, SPACING_MM)
    names = segment_pairs(("tumor", 2, 0), ("kidney", 1, 0))
    whole = write_mask(tmp_path / "mask.nii.gz", two_kidneys())
    cropped = write_cropped(tmp_path / "member.seg.nrrd", two_kidneys(), grid, names)
    for mask, member in ((whole, cropped), (cropped, whole)):
        for spread, sheet in zip(plan_mask(mask, [member]).spreads, plan_mask(whole).sheets, strict=True):
            assert spread["kidney_ml"] == (sheet.kidney_ml, sheet.kidney_ml)
    beside = write_cropped(tmp_path / "beside.seg.nrrd", two_kidneys(), replace(grid, origin_xyz_mm=(9.0, 0, 0)), names)
    assert "lie outside of its scan" in run(whole, "--member", beside)[1]


def test_an_implausible_mask_is_measured_with_a_warning(tmp_path, capfd):
    labels = two_kidneys()
    mask = write_mask(tmp_path / "mask.nii.gz", labels)
    assert run(mask, "--out", tmp_path / "sheet.json")[0] == 0
    assert [row["warnings"] for row in json.loads((tmp_path / "sheet.json").read_text())["sheets"]] == ["", ""]
    grid = Grid.axis_aligned(labels.shape, (9.0, 3.0, 3.0))
    write_volume(mask, Volume(labels, grid))
    code, output = run(mask, "--out", tmp_path / "sheet.json")
    rows = json.loads((tmp_path / "sheet.json").read_text())["sheets"]
    assert code == 0 and rows[1]["warnings"].startswith("left kidney of ") and "30 to 400 ml" in rows[1]["warnings"]
    assert f"warning: {mask}: {rows[1]['warnings']}" in output


@pytest.mark.slow
def test_a_mask_named_by_text_and_the_default_margin(tmp_path):
    mask = write_mask(tmp_path / "mask.nii.gz", two_kidneys())
    assert plan_mask(str(mask)) == plan_mask(mask, [], MARGIN_MM)
    alike = plan_mask(str(mask), [str(mask)])
    assert alike.mask == mask and alike.spreads[0]["kidney_ml"][0] == alike.spreads[0]["kidney_ml"][1]
    assert inspect.signature(plan).parameters["margin_mm"].default == MARGIN_MM


@pytest.mark.parametrize(
    ("labels", "member", "expected"),
    [
        (np.full((3, 4, 5), 7, np.uint8), None, "label 7"),
        (with_cyst(), None, "label 3 must be 0 background, 1 kidney or 2 tumor"),
        (np.ones((3, 4, 5), np.uint8), np.ones((3, 4, 6), np.uint8), "another grid"),
        (two_kidneys(), np.zeros(two_kidneys().shape, np.uint8), "shows 0 kidneys"),
    ],
)
def test_wrong_masks_are_refused(tmp_path, labels, member, expected):
    arguments = [write_mask(tmp_path / "mask.nii.gz", labels)]
    if member is not None:
        arguments += ["--member", write_mask(tmp_path / "member.nii.gz", member)]
    code, output = run(*arguments)
    assert code == USER_ERROR and expected in output


def test_a_table_is_not_written_over_the_sheet(tmp_path):
    code, output = run(write_mask(tmp_path / "mask.nii.gz", two_kidneys()), "--out", tmp_path / "sheet.csv")
    assert code == USER_ERROR and ".json" in output
    assert not (tmp_path / "sheet.csv").exists()


def test_missing_and_broken_files_are_refused(tmp_path):
    assert run(tmp_path / "none.nii.gz")[0] == USER_ERROR
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert run(tmp_path / "broken.nii.gz")[0] == USER_ERROR


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2)))
def test_any_mask_has_a_sheet(labels):
    for kidney in find_kidneys(labels, SPACING_MM, KIDNEY_TUMOR):
        values = flat(measures_of(measure_kidney(kidney)))
        numbers = [value for value in values.values() if isinstance(value, float)]
        assert np.isfinite(numbers).all()


def test_a_sheet_states_its_mask_and_what_that_was_made_from(tmp_path):
    mask = write_mask(tmp_path / "mask.nii.gz", two_kidneys())
    made_from = {"scan": "/scans/ct.nii.gz", "scan_sha256": "0123", "model": "best"}
    for about, expected in (({"provenance": made_from}, made_from), ([], None)):
        (tmp_path / "mask.json").write_text(json.dumps(about))
        assert run(mask, "--margin-mm", 4, "--out", tmp_path / "out" / "sheet.json")[0] == 0
        found = json.loads((tmp_path / "out" / "sheet.json").read_text())["provenance"]
        assert found["settings"] == {"labels": "kidney_tumor", "margin_mm": 4, "gfr": None, "nearness_mm": None}
        digest = hashlib.sha256(mask.read_bytes()).hexdigest()
        assert found["masks"] == [{"mask": str(mask), "mask_sha256": digest, "made_from": expected}]


def test_function_scores_and_lesions_of_one_patient(tmp_path):
    mask = write_mask(tmp_path / "mask.nii.gz", two_kidneys())
    code, output = run(mask, "--gfr", 80, "--nearness-mm", 5, "--out", tmp_path / "sheet.json")
    assert code == 0 and "Takagi" in output and "Tumor 1" in output and "Share of the renal function" in output
    written = json.loads((tmp_path / "sheet.json").read_text())
    right, left = written["sheets"]
    assert right["split_share"] + left["split_share"] == pytest.approx(1)
    assert right["split_share"] == pytest.approx(right["kidney_ml"] / (right["kidney_ml"] + left["kidney_ml"]))
    # After the loss of the right kidney, the left one alone; with a gain of 24 % at most.
    assert right["gfr_radical_low"] == pytest.approx(80 * left["split_share"])
    assert right["gfr_radical_high"] == pytest.approx(80 * left["split_share"] * 1.24)
    assert right["gfr_radical_high"] < right["gfr_partial_low"] < right["gfr_partial_high"]
    assert left["gfr_partial_low"] is None and left["renal_n"] is None
    assert (right["renal_n"], right["resected_ml"] > 0) == (2, True)
    assert right["renal_sum_low"] == right["renal_sum_high"] == sum(right[f"renal_{item}"] for item in "renl")
    (tumor,) = written["lesions"]
    assert (tumor["side"], tumor["label"], tumor["number"]) == ("right", "tumor", 1)
    assert tumor["volume_ml"] == pytest.approx(right["tumor_ml"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--gfr", 0), "GFR 0.0: must be above 0"),
        (("--nearness-mm", -1), "nearness -1.0 mm: must be 0 to 200"),
        (("--gfr", 80), "are of one patient, but 2 masks are named"),
    ],
)
def test_impossible_values_of_a_patient_are_refused(tmp_path, options, expected):
    masks = [write_mask(tmp_path / "a.nii.gz", two_kidneys())]
    if "masks" in expected:
        masks.append(write_mask(tmp_path / "b.nii.gz", two_kidneys()))
    code, output = run(*masks, *options)
    assert code == USER_ERROR and expected in output


def test_the_nearness_is_of_one_tumor(tmp_path):
    right = kidney_with(BALL, SPACING_MM).labels
    both = np.concatenate([right, np.zeros((*right.shape[:2], 30), np.uint8), right[:, :, ::-1]], axis=2)
    code, output = run(write_mask(tmp_path / "both.nii.gz", both), "--nearness-mm", 3)
    assert code == USER_ERROR and "both kidneys have a tumor" in output
