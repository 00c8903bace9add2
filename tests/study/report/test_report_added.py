"""Another program's masks in the report, on a real store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.balls import ball_roi
from support.fake_results import metric_row, trial_rows, write_manifest, write_rows
from support.slicer_files import segment_pairs, write_cropped

from renalnet.config import KITS23, PrepareConfig
from renalnet.data.images.grid import Grid
from renalnet.data.images.volume import Volume, to_source, write_volume
from renalnet.data.store.reader import Store, open_store
from renalnet.data.store.writer import write_store
from renalnet.errors import ConfigError, InputError, ResultsError
from study.records.results import Results
from study.report.analysis.added import measure_added, parse_added
from study.report.analysis.contents import Programs
from study.report.analysis.methods import LOOKS, Looks, names_in
from study.report.pages.write import write_report


def masks(folder: Path, store: Store, *, shift: int = 0, cases: list[str] | None = None) -> Path:
    """Write the truth of test cases, shifted along x, on the grids of their scans."""
    for case in store.cases("test") if cases is None else cases:
        roi = store.read(case)
        write_volume(
            folder / f"{case}.nii.gz", to_source(Volume(np.roll(roi.label, shift, axis=2), roi.grid), roi.source)
        )
    return folder


def results(folder: Path, store: Store) -> Results:
    folder.mkdir()
    data = {"source": store.path, "fingerprint": store.fingerprint, "synthetic": True}
    write_manifest(folder, data=data)
    write_rows(folder / "trials.parquet", trial_rows())
    cases = store.cases("test")
    rows = [metric_row(case, "fcn_ppm", label, 0.8) for case in cases for label in ("kidney", "tumor")]
    write_rows(folder / "final" / "metrics.parquet", rows)
    return Results(str(folder))


def test_the_truth_is_measured_as_right(ball_store: Store, tmp_path: Path) -> None:
    found = measure_added("nnunet", masks(tmp_path, ball_store), ball_store)
    assert found.missing == []
    assert {row.dice for row in found.measurements} == {1.0}
    assert {row.label for row in found.measurements} >= {"kidney", "tumor"}


def test_cropped_segmentations_of_slicer_are_put_in_their_place(ball_store: Store, tmp_path: Path) -> None:
    names = segment_pairs(("tumor", 2, 0), ("kidney", 1, 0))
    for case in ball_store.cases("test"):
        roi = ball_store.read(case)
        whole = to_source(Volume(roi.label, roi.grid), roi.source)
        write_cropped(tmp_path / f"{case}.seg.nrrd", whole.array, roi.source, names)
    found = measure_added("reader", tmp_path, ball_store)
    assert found.missing == [] and {row.dice for row in found.measurements} == {1.0}


def test_masks_on_the_grids_of_the_rois_are_measured_without_resampling(tmp_path: Path) -> None:
    """As nnU-Net's masks of an exported store: the scan has slices twice as thick."""
    rois = [ball_roi("case_00000", "train", 0), ball_roi("case_00001", "test", 1)]
    rois = [replace(roi, source=Grid.axis_aligned((8, 20, 20), (4.0, 2.0, 2.0))) for roi in rois]
    store = write_store(tmp_path / "store", rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut"))
    write_volume(tmp_path / "masks" / "case_00001.nii.gz", Volume(rois[1].label, rois[1].grid))
    found = measure_added("nnunet", tmp_path / "masks", store)
    assert {row.dice for row in found.measurements} == {1.0}
    np.testing.assert_array_equal(found.labels["case_00001"], rois[1].label)


@pytest.mark.slow
def test_they_are_in_every_table(ball_store: Store, tmp_path: Path) -> None:
    folder = masks(tmp_path / "m", ball_store, shift=2)
    made = write_report(results(tmp_path / "r", ball_store), programs=Programs([("nnU-Net <b>", folder)]))
    assert [row.method.network for row in made.summary.standings] == ["fcn_ppm", "nnU-Net <b>"]
    assert {margin.other.network for margin in made.summary.margins} == {"nnU-Net <b>"}
    assert all("nnU-Net <b>" in case.others for case in made.summary.cases)
    page = Path(str(made.page)).read_text(encoding="utf-8")
    assert "nnU-Net &lt;b&gt;" in page and "nnU-Net <b>" not in page
    assert "nnU-Net <b>" in (tmp_path / "r" / "tables" / "table_one.csv").read_text()
    look = Looks(names_in(made.content))["nnU-Net <b>"]
    assert look.title == "nnU-Net <b>" and look.color not in {known.color for known in LOOKS.values()}


@pytest.mark.slow
def test_missing_masks_are_named(ball_store: Store, tmp_path: Path) -> None:
    first, *others = ball_store.cases("test")
    folder = masks(tmp_path / "m", ball_store, cases=[first])
    made = write_report(results(tmp_path / "r", ball_store), programs=Programs([("other", folder)]))
    (added,) = made.added
    assert added.missing == others
    page = Path(str(made.page)).read_text(encoding="utf-8")
    assert f"no mask of {len(others)} test cases" in page


def test_wrong_masks_are_refused(ball_store: Store, tmp_path: Path) -> None:
    case = ball_store.cases("test")[0]
    roi = ball_store.read(case)
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="holds no masks"):
        measure_added("x", tmp_path / "other", ball_store)
    depth, height, width = roi.label.shape
    cut = Volume(roi.label[:-1], Grid.axis_aligned((depth - 1, height, width), roi.spacing_mm))
    write_volume(tmp_path / "other" / f"{case}.nii.gz", cut)
    with pytest.raises(InputError, match="another grid"):
        measure_added("x", tmp_path / "other", ball_store)
    write_volume(tmp_path / "strangers" / "who.nii.gz", Volume(roi.label, roi.grid))
    with pytest.raises(InputError, match="holds no mask of the"):
        measure_added("x", tmp_path / "strangers", ball_store)


def test_masks_with_labels_of_another_set_are_refused(ball_store: Store, tmp_path: Path) -> None:
    folder = masks(tmp_path, ball_store)
    case = ball_store.cases("test")[0]
    roi = ball_store.read(case)
    mask = np.where(roi.label == 2, 3, roi.label).astype(np.uint8)
    write_volume(folder / f"{case}.nii.gz", to_source(Volume(mask, roi.grid), roi.source))
    with pytest.raises(InputError, match="label 3 must be 0 background, 1 kidney or 2 tumor; relabel the file"):
        measure_added("x", folder, ball_store)


def test_masks_are_measured_by_the_labels_of_the_store(tmp_path: Path) -> None:
    rois = [ball_roi("case_00000", "train", 0), ball_roi("case_00001", "test", 1)]
    for roi in rois:
        roi.label[roi.label == 2] = 3
    write_store(tmp_path / "store", rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut", labels=KITS23))
    store = open_store(str(tmp_path / "store"))
    found = {row.label: row for row in measure_added("x", masks(tmp_path / "masks", store), store).measurements}
    assert list(found) == ["kidney", "tumor", "cyst", "kidney_and_mass", "mass"]
    assert (found["cyst"].dice, found["cyst"].found, found["cyst"].truth_empty) == (1.0, True, False)
    assert (found["tumor"].found, found["tumor"].truth_empty) == (None, True)


@pytest.mark.parametrize("assignment", ["name", "=folder", "name=", "fcn_ppm=folder", "truth=folder"])
def test_wrong_assignments_are_refused(assignment: str) -> None:
    with pytest.raises(ConfigError):
        parse_added(assignment)


def test_another_store_is_refused(ball_store: Store, tmp_path: Path) -> None:
    folder = results(tmp_path / "r", ball_store)
    write_manifest(tmp_path / "r", data={"source": ball_store.path, "fingerprint": "another"})
    with pytest.raises(ResultsError, match="fingerprint"):
        write_report(folder, programs=Programs([("x", tmp_path)]))
    write_manifest(tmp_path / "r", data={"source": "phantoms", "fingerprint": "another"})
    with pytest.raises(ResultsError, match="--data"):
        write_report(folder, programs=Programs([("x", tmp_path)]))
