"""Stores of other label sets: their preparation, and structures that must not change how a kidney is found and cut."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.label_sets import CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23, LabelSet, PhantomConfig, PrepareConfig, label_set
from renalnet.data.cases.loading import ScanCase
from renalnet.data.checks.facts_file import facts_from_bytes
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.data.localise.atlas import atlases_to_bytes
from renalnet.data.phantom import paint_abdomen
from renalnet.data.prepare.case_jobs import AtlasJob, CutJob, InspectJob, atlas_of, cut_case, inspect_case, scan_stamp
from renalnet.data.prepare.preparation import local_pool, prepare
from renalnet.data.prepare.request import Request
from renalnet.data.prepare.summary import PrepareSummary
from renalnet.data.store.reader import open_store
from renalnet.errors import InputError, StoreError
from renalnet.runtime.workers import Workers

CUT = PrepareConfig(spacing_mm=None, localise="cut", num_atlases=1)
WITH_CYSTS = CUT.model_copy(update={"labels": KITS23})
GRID = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))
GRID_VOXELS = 12 * 40 * 40


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with local_pool(1) as one:
        yield one


def write_case(folder: Path, image: Volume, label: Volume) -> ScanCase:
    scan = ScanCase(folder.name, folder / "imaging.nii.gz", folder / "segmentation.nii.gz")
    write_volume(scan.image, image)
    write_volume(scan.label, label)
    return scan


def write_rois(folder: Path, count: int, *, first: int = 0, cysts: bool = True) -> Path:
    """Write ROIs of 20×40 voxels with a kidney of 7200 to 6480 voxels, of which 200 are tumor and 80 are cyst."""
    for index in range(first, first + count):
        image = np.random.default_rng(index).integers(-1000, 500, GRID.shape).astype(np.int16)
        label = np.zeros(GRID.shape, np.uint8)
        label[2:10, 5:35, 5 : 35 - index] = 1
        label[4:6, 10:20, 10:20] = 2
        if cysts:
            label[4:9, 25:29, 20:24] = CYST
        image[label > 0] = 150
        write_case(folder / f"case_{index}", Volume(image, GRID), Volume(label, GRID))
    return folder


def run(pool: Workers, src: Path, out: Path, config: PrepareConfig, **more: object) -> PrepareSummary:
    return prepare(Request(src, out, config, **more), pool)  # type: ignore[arg-type]


@pytest.mark.slow
def test_cysts_go_into_the_store_and_the_summary(pool: Workers, tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    splits = {"case_0": "train", "case_1": "train", "case_2": "test"}
    summary = run(pool, src, tmp_path / "store", WITH_CYSTS, splits=splits)
    store = open_store(tmp_path / "store")
    assert store.labels == KITS23
    assert (store.read("case_0").label == CYST).sum() == 80
    assert list(summary.class_shares["train"]) == ["background", "kidney", "tumor", "cyst"]
    assert summary.class_shares["train"]["cyst"] == pytest.approx(80 / GRID_VOXELS)
    assert summary.class_shares["test"]["tumor"] == pytest.approx(200 / GRID_VOXELS)
    assert sum(summary.class_shares["train"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_a_store_is_added_to_in_its_own_labels_only(pool: Workers, tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2)
    run(pool, src, tmp_path / "store", WITH_CYSTS)
    write_rois(src, 1, first=2)
    out = str(tmp_path / "store")
    with pytest.raises(StoreError) as caught:
        run(pool, src, tmp_path / "store", CUT, label_map={3: 1})
    assert str(caught.value) == (
        f"{out}: its labels are kits23 (1 kidney, 2 tumor, 3 cyst), but those of the preparation are kidney_tumor "
        f"(1 kidney, 2 tumor); use one label set for both (--set labels=kits23 for that of {out})"
    )
    assert open_store(out).cases() == ["case_0", "case_1"]
    assert run(pool, src, tmp_path / "store", WITH_CYSTS).num_added == 1


def test_cysts_are_not_added_to_a_store_without_them(pool: Workers, tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2, cysts=False)
    run(pool, src, tmp_path / "store", CUT)
    words = r"store: its labels are kidney_tumor .* \(--set labels=kidney_tumor for that of .*store\)$"
    with pytest.raises(StoreError, match=words):
        run(pool, src, tmp_path / "store", WITH_CYSTS)


@pytest.mark.slow
def test_other_colors_are_no_other_labels(pool: Workers, tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2)
    run(pool, src, tmp_path / "store", WITH_CYSTS)
    before = open_store(tmp_path / "store")
    cyst = KITS23["cyst"].model_copy(update={"color": "#000000"})
    recolored = KITS23.model_copy(update={"name": "mine", "labels": (*KITS23.labels[:2], cyst)})
    write_rois(src, 1, first=2)
    assert run(pool, src, tmp_path / "store", CUT.model_copy(update={"labels": recolored})).num_added == 1
    assert set(before.manifest.shards) < set(open_store(tmp_path / "store").manifest.shards)


def test_a_label_that_the_set_lacks_is_a_finding_with_its_remedies(pool: Workers, tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2)
    words = r"case_0: .*label value 3 .* --label-map 3=1 \(kidney\), .* --set labels=kits23 \(and 1 more bad scans\)"
    with pytest.raises(InputError, match=words):
        run(pool, src, tmp_path / "store", CUT)
    assert run(pool, src, tmp_path / "store", CUT, label_map={3: 1}).num_added == 2
    store = open_store(tmp_path / "store")
    assert store.labels == KIDNEY_TUMOR
    assert store.entry("case_0").counts == (GRID_VOXELS - 7200, 7000, 200)


SWAPPED = label_set(
    {
        "name": "swapped",
        "labels": [{"name": "tumor", "value": 1, "lesion_of": "kidney"}, {"name": "kidney", "value": 2}],
    }
)


def tumor_volumes(folder: Path) -> list[float]:
    store = open_store(folder)
    assert store.manifest.facts
    return [facts.tumor_ml for facts in facts_from_bytes(store.read_beside(store.manifest.facts))]


@pytest.mark.slow
def test_checks_of_another_set_are_not_taken_over(pool: Workers, tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 1, cysts=False)
    empty = Volume(np.zeros(GRID.shape, np.uint8), GRID)
    write_case(src / "empty", Volume(np.full(GRID.shape, 40, np.int16), GRID), empty)
    with pytest.raises(InputError, match="empty: "):
        run(pool, src, tmp_path / "store", CUT)
    swapped = CUT.model_copy(update={"labels": SWAPPED})
    splits = {"case_0": "train"}
    run(pool, src, tmp_path / "store", swapped, skip_bad=True, splits=splits)
    assert tumor_volumes(tmp_path / "store") == [pytest.approx(7000 * 0.002)]


def test_the_stamp_of_a_default_scan_is_that_of_the_versions_before(tmp_path: Path) -> None:
    scan = ScanCase("a", tmp_path / "a.nii", tmp_path / "b.nii", None, ((3, 1),))
    assert repr(scan) == (
        f"ScanCase(case='a', image=PosixPath('{tmp_path}/a.nii'), label=PosixPath('{tmp_path}/b.nii'), series=None, "
        "label_map=((3, 1),))"
    )
    # Of a scan at fixed paths, written down before scans had label sets.
    absent = ScanCase("a", Path("/absent/a.nii"), Path("/absent/b.nii"))
    assert scan_stamp(absent) == STAMP_BEFORE
    stamps = {scan_stamp(replace(absent, labels=labels)) for labels in (KIDNEY_TUMOR, KITS23, SWAPPED)}
    assert len(stamps) == 3


STAMP_BEFORE = "6b52e74927c90dab"

PHANTOM = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2), contrast="narrow")
WHOLE = PrepareConfig(spacing_mm=(3.0, 2.0, 2.0), num_atlases=1, atlas_spacing_mm=8.0, localiser_steps=0)


def whole_scan(folder: Path, labels: LabelSet, *, vein: bool) -> ScanCase:
    """Write a painted abdomen; the vein leads through all slices and across the body, and touches both kidneys."""
    painted = paint_abdomen(PHANTOM, 0)
    label = painted.label.array.copy()
    if vein:
        _, y, x = np.argwhere(label > 0).mean(axis=0).astype(int)
        added = np.zeros(label.shape, bool)
        added[:, y - 8 : y + 8, x - 8 : x + 8] = True  # five times the voxels of a kidney
        added[30, y - 1 : y + 1, 20:90] = True
        label[added & (label == 0)] = VEIN
    return replace(write_case(folder, painted.image, Volume(label, painted.label.grid)), labels=labels)


@pytest.mark.slow
def test_another_structure_changes_neither_checks_nor_atlas_nor_roi(tmp_path: Path) -> None:
    """The case without a vein, and the same one with a vein under a set that has it."""
    plain = whole_scan(tmp_path / "plain" / "a", KIDNEY_TUMOR, vein=False)
    scan = whole_scan(tmp_path / "vein" / "a", VESSELS, vein=True)
    config = WHOLE.model_copy(update={"labels": VESSELS})
    expected = inspect_case(InspectJob(plain, WHOLE))
    found = inspect_case(InspectJob(scan, config))
    assert expected.facts and found.facts and found.facts.label_digest != expected.facts.label_digest
    assert replace(found.facts, label_digest="") == replace(expected.facts, label_digest="")
    assert (found.findings, found.candidate) == (expected.findings, expected.candidate)
    atlases = [atlas_of(AtlasJob(config, True, one, 0)) for one in (plain, scan)]
    contents = [atlases_to_bytes([atlas]) for atlas in atlases]
    assert contents[0] == contents[1]
    path = tmp_path / "atlas.parquet"
    path.write_bytes(atlases_to_bytes([atlas_of(AtlasJob(config, True, None, 0))]))
    without, _ = cut_case(CutJob(plain, "train", expected.origin, str(path), None, WHOLE))
    roi, _ = cut_case(CutJob(scan, "train", found.origin, str(path), None, config))
    assert (roi.grid, roi.notes) == (without.grid, ())
    assert without.notes == ()
    np.testing.assert_array_equal(roi.image, without.image)
    is_vein = roi.label == VEIN
    assert is_vein.any()
    # A voxel at the border of the vein has the label with the largest share.
    assert np.mean(roi.label[~is_vein] != without.label[~is_vein]) < 1e-3
