"""Tests of the preparation of stores from folders of scans."""

import csv
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from renalnet.commands.store import describe_store
from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.cases.loading import ScanCase
from renalnet.data.cases.splits import Stratum, assign_splits
from renalnet.data.checks.validation_file import FINDINGS_FILE
from renalnet.data.images.volume import Grid, Volume, read_volume, write_volume
from renalnet.data.localise.atlas import load_atlases
from renalnet.data.phantom import COHORT_FILE, paint_abdomen
from renalnet.data.prepare import preparation
from renalnet.data.prepare.case_jobs import InspectJob, inspect_case
from renalnet.data.prepare.preparation import LEASE_FILE, Progress, local_pool
from renalnet.data.prepare.preparation import prepare as run_prepare
from renalnet.data.prepare.request import Request
from renalnet.data.prepare.summary import PrepareSummary
from renalnet.data.store.reader import open_store
from renalnet.errors import BusyError, InputError, StoreError
from renalnet.runtime import storage
from renalnet.runtime.lease import Lease
from renalnet.runtime.workers import Workers
from renalnet.types import Split

ROOT = Path(__file__).parents[3]
PHANTOM = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2), contrast="narrow")
WHOLE = PrepareConfig(spacing_mm=(3.0, 2.0, 2.0), num_atlases=2, atlas_spacing_mm=8.0, localiser_steps=0)
CUT = PrepareConfig(spacing_mm=None, localise="cut", num_atlases=1, slab_slices=4)
GRID = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))
EMPTY_LABEL = Volume(np.zeros(GRID.shape, np.uint8), GRID)


POOLS: dict[int, Workers] = {}


@pytest.fixture(scope="module", autouse=True)
def pools() -> Iterator[None]:
    """Pools of one and of two processes for all tests, because each process imports the libraries for seconds."""
    with local_pool(1) as one, local_pool(2) as two:
        POOLS.update({1: one, 2: two})
        yield


def prepare(
    src: Path, out: Path, config: PrepareConfig, *, workers: int = 1, progress: Progress | None = None, **more: object
) -> PrepareSummary:
    return run_prepare(Request(src, out, config, **more), POOLS[workers], progress)  # type: ignore[arg-type]


def write_case(folder: Path, image: Volume, label: Volume) -> None:
    write_volume(folder / "imaging.nii.gz", image)
    write_volume(folder / "segmentation.nii.gz", label)


def write_rois(folder: Path, count: int, first: int = 0) -> Path:
    for index in range(first, first + count):
        rng = np.random.default_rng(index)
        image = rng.integers(-1000, 500, GRID.shape).astype(np.int16)
        label = np.zeros(GRID.shape, np.uint8)
        label[2:10, 5:35, 5 : 35 - index] = 1
        label[4:6, 10:20, 10:20] = 2
        image[label > 0] = 150
        write_case(folder / f"case_{index}", Volume(image, GRID), Volume(label, GRID))
    return folder


@pytest.fixture(scope="module")
def abdomens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abdomens")
    for index in range(4):
        painted = paint_abdomen(PHANTOM, index)
        write_case(folder / f"case_{index}", painted.image, painted.label)
    (folder / COHORT_FILE).write_text("{}")
    return folder


@pytest.mark.slow
def test_whole_scans_are_localised_and_every_labelled_voxel_is_kept(abdomens: Path, tmp_path: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    summary = prepare(abdomens, tmp_path, WHOLE, progress=lambda *stage: stages.append(stage))
    assert stages[-1] == ("cut", 4, 4)
    assert sum(summary.num_cases.values()) == 4
    assert summary.num_not_localised == 0
    store = open_store(tmp_path)
    store.verify()
    assert store.manifest.synthetic
    assert {atlas.name for atlas in load_atlases(str(store.atlas_path))} <= {
        *store.cases("train"),
        "phantom-0",
    }
    for index, case in enumerate(store.cases()):
        roi = store.read(case)
        truth = paint_abdomen(PHANTOM, index)
        assert roi.grid.spacing_mm == (3.0, 2.0, 2.0)
        tumor_ml = (roi.label == 2).sum() * roi.grid.voxel_ml
        assert tumor_ml == pytest.approx((truth.label.array == 2).sum() * truth.label.grid.voxel_ml, rel=0.1, abs=0.3)


@pytest.mark.slow
def test_two_workers_write_the_same_store(abdomens: Path, tmp_path: Path) -> None:
    prepare(abdomens, tmp_path / "one", WHOLE)
    prepare(abdomens, tmp_path / "two", WHOLE, workers=2)
    assert open_store(tmp_path / "one").manifest == open_store(tmp_path / "two").manifest


@pytest.mark.slow
def test_rois_already_cut_stay_unchanged(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    summary = prepare(src, tmp_path / "store", CUT)
    assert (sum(summary.num_cases.values()), summary.num_grown) == (4, 0)
    roi = open_store(tmp_path / "store").read("case_0")
    expected = np.random.default_rng(0).integers(-1000, 500, GRID.shape)
    np.testing.assert_array_equal(roi.image[roi.label == 0], expected[roi.label == 0])
    assert [atlas.name for atlas in load_atlases(str(open_store(tmp_path / "store").atlas_path))] == ["phantom-0"]
    assert not open_store(tmp_path / "store").manifest.synthetic


def test_a_second_folder_is_held_out(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    test_src = write_rois(tmp_path / "test", 2, first=3)
    prepare(src, tmp_path / "store", CUT, test_src=test_src)
    assert open_store(tmp_path / "store").cases("test") == ["case_3", "case_4"]
    with pytest.raises(InputError, match=r"case 'case_0' is in .* and in .*; remove or rename"):
        prepare(src, tmp_path / "other", CUT, test_src=src)


def test_repeating_keeps_the_store_and_other_settings_are_refused(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    first = prepare(src, tmp_path / "store", CUT)
    assert first.num_added == 3
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    assert prepare(src, tmp_path / "store", CUT) == replace(first, num_added=0)
    with pytest.raises(StoreError, match="other settings; choose another folder"):
        prepare(src, tmp_path / "store", CUT.model_copy(update={"hu_max": 400}))
    shards = {path: time for path, time in written.items() if path.suffix == ".parquet"}
    assert shards == {path: path.stat().st_mtime_ns for path in shards}


def test_all_cases_are_checked_before_one_is_cut(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2)
    for case in ("case_8", "case_9"):
        image = Volume(np.full(GRID.shape, ord(case[-1]), np.int16), GRID)
        write_case(src / case, image, Volume(np.zeros(GRID.shape, np.uint8), GRID))
    with pytest.raises(InputError, match=r"case_8: .*\(and 1 more bad scans\); see .*validation\.csv, or .*--skip-bad"):
        prepare(src, tmp_path / "store", CUT)
    with pytest.raises(StoreError, match="no store here"):
        open_store(tmp_path / "store")
    listed = storage.read_json(tmp_path / "store" / FINDINGS_FILE)
    assert [finding["case"] for finding in listed if finding["code"] == "label-empty"] == ["case_8", "case_9"]


def test_a_case_under_two_names_is_refused(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2)
    (src / "case_0").rename(src / "copy")
    write_rois(src, 1)
    with pytest.raises(InputError, match=r"the same image as case '(copy|case_0)'"):
        prepare(src, tmp_path / "store", CUT)


@pytest.mark.slow
def test_cases_are_added_without_moving_others(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    store = tmp_path / "store"
    prepare(src, store, CUT)
    before = open_store(store)
    write_rois(src, 4, first=4)
    assert prepare(src, store, CUT).num_added == 4
    after = open_store(store)
    assert after.normalisation == before.normalisation and after.manifest.atlas == before.manifest.atlas
    assert all(after.entry(case) == before.entry(case) for case in before.cases())
    assert set(before.manifest.shards) < set(after.manifest.shards)
    assert prepare(write_rois(tmp_path / "more", 2, first=8), store, CUT).num_added == 2  # from another folder
    assert len(open_store(store).cases()) == 10


@pytest.mark.slow
def test_refit_takes_the_mean_of_all_training_cases(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 6)
    config = CUT.model_copy(update={"test_share": 0.1, "validation_share": 0.1})
    prepare(src, tmp_path / "store", config)
    write_rois(src, 6, first=6)
    prepare(src, tmp_path / "store", config, refit=True)
    store = open_store(tmp_path / "store")
    clipped = np.concatenate([np.clip(roi.image, -200, 500).ravel() for roi in store.read_split("train")])
    assert store.normalisation.mean == pytest.approx((clipped.mean() + 200) / 700)


@pytest.mark.slow
def test_cases_added_to_a_named_test_cohort_are_never_drawn_into_it(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    test_src = write_rois(tmp_path / "test", 1, first=4)
    prepare(src, tmp_path / "store", CUT, test_src=test_src)
    write_rois(src, 15, first=5)
    prepare(src, tmp_path / "store", CUT)
    assert open_store(tmp_path / "store").cases("test") == ["case_4"]


@pytest.mark.slow
def test_another_scan_under_a_known_name_is_refused(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    prepare(src, tmp_path / "store", CUT)
    write_rois(tmp_path, 1, first=7)
    (tmp_path / "case_7" / "imaging.nii.gz").replace(src / "case_1" / "imaging.nii.gz")
    with pytest.raises(StoreError, match="case 'case_1' is of another scan or label than in"):
        prepare(src, tmp_path / "store", CUT)


@pytest.mark.slow
def test_splits_are_drawn_by_what_the_cases_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strata: dict[str, Stratum] = {}

    def drawn(cases: Collection[str], **named: Any) -> dict[str, Split]:
        strata.update(named["strata"])
        return assign_splits(cases, **named)

    monkeypatch.setattr(preparation, "assign_splits", drawn)
    prepare(write_rois(tmp_path / "src", 3), tmp_path / "store", CUT)
    store = open_store(tmp_path / "store")
    with (tmp_path / "store" / "splits.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert strata.keys() == set(store.cases()) and len(strata) == 3
    for case, stratum in strata.items():
        tumor_ml = float(rows[case]["tumor_ml"])
        assert stratum.has_tumor == (tumor_ml > 0)
        assert stratum.volume_ml == pytest.approx(tumor_ml or float(rows[case]["kidney_ml"]), abs=0.051)
        assert stratum.spacing_mm == float(rows[case]["spacing_z_mm"])


def test_splits_of_a_store_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = write_rois(tmp_path / "src", 4)
    prepare(src, tmp_path / "store", CUT)
    first = open_store(tmp_path / "store")
    write_rois(src, 2, first=4)
    prepare(src, tmp_path / "store", CUT)
    store = open_store(tmp_path / "store")
    with (tmp_path / "store" / "splits.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert {case: row["split"] for case, row in rows.items()} == store.index.splits()
    assert {case: rows[case]["split"] for case in first.cases()} == first.index.splits()
    assert all(float(row["kidney_ml"]) > 0 and float(row["spacing_z_mm"]) > 0 for row in rows.values())
    describe_store(str(tmp_path / "store"))
    told = capsys.readouterr().out.splitlines()
    for split in ("validation", "test"):
        assert f"{split}: {', '.join(store.cases(split))}" in told  # type: ignore[arg-type]


def test_bad_scans_are_left_out_and_listed_on_request(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    content = (src / "case_2" / "imaging.nii.gz").read_bytes()
    (src / "case_2" / "imaging.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"case_2: .*imaging\.nii\.gz.*--skip-bad"):
        prepare(src, tmp_path / "store", CUT)
    summary = prepare(src, tmp_path / "store", CUT, skip_bad=True)
    assert [skipped.split(":")[0] for skipped in summary.skipped] == ["case_2"]
    store = open_store(tmp_path / "store")
    assert store.cases() == ["case_0", "case_1", "case_3"]
    assert any(note.startswith("case_2: left out: ") for note in store.manifest.notes)


@pytest.mark.slow
def test_a_sound_scan_stays_where_its_faulty_copy_is_left_out(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    write_case(src / "case_1_old", read_volume(src / "case_1" / "imaging.nii.gz"), EMPTY_LABEL)
    summary = prepare(src, tmp_path / "store", CUT, skip_bad=True)
    assert [skipped.split(":")[0] for skipped in summary.skipped] == ["case_1_old"]
    assert "case_1" in open_store(tmp_path / "store").cases()


@pytest.mark.slow
def test_a_named_split_stays_complete_where_its_case_is_bad(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 9)
    write_case(src / "case_2", read_volume(src / "case_2" / "imaging.nii.gz"), EMPTY_LABEL)
    prepare(src, tmp_path / "store", CUT, skip_bad=True, splits={"case_2": "test"})
    assert open_store(tmp_path / "store").cases("test") == []


@pytest.mark.slow
def test_a_copy_of_a_stored_case_is_recognised_without_its_original(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    prepare(src, tmp_path / "store", CUT)
    assert not list((tmp_path / "store").glob("checks/*"))
    (src / "case_0").rename(src / "renamed")
    with pytest.raises(InputError, match="renamed: the same image as case 'case_0'"):
        prepare(src, tmp_path / "store", CUT)


@pytest.mark.slow
def test_a_clash_of_names_leaves_the_store_unchanged(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    prepare(src, tmp_path / "store", CUT)
    other = write_rois(tmp_path / "other", 1, first=7)
    (other / "case_7").rename(other / "case_1")
    with pytest.raises(StoreError, match="case 'case_1' is of another scan or label"):
        prepare(other, tmp_path / "store", CUT)
    (other / "case_1").rename(other / "case_9")
    assert prepare(other, tmp_path / "store", CUT).num_added == 1
    (other / "case_9").rename(other / "case_10")
    with pytest.raises(InputError, match="case_10: the same image as case 'case_9'"):
        prepare(other, tmp_path / "store", CUT)


@pytest.mark.slow
def test_partial_files_of_a_killed_preparation_are_removed(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    checks = tmp_path / "store" / "checks"
    checks.mkdir(parents=True)
    for name in (".000001.parquet.0a1b2c3d.tmp", "notes.txt", "000002.parquet"):
        (checks / name).write_bytes(b"half")
    prepare(src, tmp_path / "store", CUT)
    assert [path.name for path in checks.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_a_changed_atlas_is_named(tmp_path: Path) -> None:
    prepare(write_rois(tmp_path / "src", 3), tmp_path / "store", CUT)
    store = open_store(tmp_path / "store")
    atlas = Path(str(store.atlas_path))
    atlas.write_bytes(atlas.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"atlas-\w+\.safetensors: damaged or foreign file"):
        store.verify()


@pytest.mark.slow
def test_a_scan_is_read_once_for_its_checks(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    stages: list[tuple[str, int, int]] = []
    bad = write_rois(tmp_path, 1, first=5) / "case_5"
    bad.rename(src / "bad")
    (src / "bad" / "segmentation.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="bad: "):
        prepare(src, tmp_path / "store", CUT)
    write_rois(tmp_path, 1, first=5)
    (tmp_path / "case_5" / "segmentation.nii.gz").replace(src / "bad" / "segmentation.nii.gz")
    prepare(src, tmp_path / "store", CUT, progress=lambda *stage: stages.append(stage))
    assert [done for stage, done, _ in stages if stage == "check"] == [3, 4]


def test_a_store_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    with Lease(str(tmp_path / "store" / LEASE_FILE)), pytest.raises(BusyError, match="is writing here"):
        prepare(src, tmp_path / "store", CUT)


@pytest.mark.slow
def test_a_store_on_an_object_store_is_prepared_and_added_to(s3_uri: str, tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    prepare(src, s3_uri, CUT)  # type: ignore[arg-type]
    write_rois(src, 1, first=3)
    assert prepare(src, s3_uri, CUT).num_added == 1  # type: ignore[arg-type]
    store = open_store(s3_uri)
    store.verify()
    assert len(store.cases()) == 4


def start(src: Path, store: Path, *, limit_kb: int | None = None) -> subprocess.Popen[bytes]:
    """Start `renalnet prepare` in its own process, with shards of 1 MB and a limit on the size of files."""
    words = [sys.executable, "-m", "renalnet", "prepare", str(src), "--out", str(store), "--workers", "1"]
    for assignment in ("spacing_mm=null", "localise=cut", "num_atlases=1", "shard_mb=1", "slab_slices=4"):
        words += ["--set", assignment]
    limited = ["bash", "-c", f'ulimit -f {limit_kb or "unlimited"}; exec "$@"', "bash", *words]
    with stderr_of(store).open("wb") as stderr:
        return subprocess.Popen(limited, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr)


def stderr_of(store: Path) -> Path:
    return store.with_name(f"{store.name}.stderr")


@pytest.fixture(scope="module")
def large_rois(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight ROIs, of which two fill a shard of 1 MB."""
    folder = tmp_path_factory.mktemp("large")
    grid = Grid.axis_aligned((40, 96, 96), (2.0, 1.0, 1.0))
    for index in range(8):
        image = np.random.default_rng(index).integers(-1000, 500, grid.shape).astype(np.int16)
        label = np.zeros(grid.shape, np.uint8)
        label[2:38, 20:60, 20 : 50 + index] = 1
        label[4:14, 24:44, 24:44] = 2
        image[label > 0] = 150
        write_case(folder / f"large_{index}", Volume(image, grid), Volume(label, grid))
    return folder


@pytest.mark.slow
def test_a_killed_preparation_continues_where_it_stopped(large_rois: Path, tmp_path: Path) -> None:
    assert start(large_rois, tmp_path / "undisturbed").wait() == 0
    killed = start(large_rois, tmp_path / "store")
    while not list(tmp_path.glob("store/shards/*.parquet")):
        time.sleep(0.02)
        assert killed.poll() is None, stderr_of(tmp_path / "store").read_text()
    killed.kill()
    killed.wait()
    with pytest.raises(StoreError, match="no store here"):
        open_store(tmp_path / "store")
    left = {path.name for path in (tmp_path / "store" / "shards").glob("*.parquet")}
    assert start(large_rois, tmp_path / "store").wait() == 0, stderr_of(tmp_path / "store").read_text()
    assert left <= {shard.name for shard in open_store(tmp_path / "store").manifest.shards}
    assert open_store(tmp_path / "store").fingerprint == open_store(tmp_path / "undisturbed").fingerprint


@pytest.mark.slow
def test_a_full_disk_leaves_the_store_readable(large_rois: Path, tmp_path: Path) -> None:
    config = CUT.model_copy(update={"shard_mb": 1})
    small = write_rois(tmp_path / "src", 3)
    prepare(small, tmp_path / "store", config)
    before = open_store(tmp_path / "store")
    exit_code = start(large_rois, tmp_path / "store", limit_kb=500).wait()
    stderr = stderr_of(tmp_path / "store").read_text()
    assert exit_code == 1 and "full; make room" in stderr.splitlines()[-1], stderr
    after = open_store(tmp_path / "store")
    after.verify()
    assert after.manifest == before.manifest
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_missing_scan_is_a_finding(tmp_path: Path) -> None:
    write_rois(tmp_path, 1)
    folder = tmp_path / "case_0"
    scan = ScanCase("case_0", folder / "imaging.nii.gz", folder / "segmentation.nii.gz")
    before = inspect_case(InspectJob(scan, CUT))
    scan.label.unlink()
    after = inspect_case(InspectJob(scan, CUT))
    assert before.facts
    assert [(finding.code, finding.level) for finding in after.findings] == [("unreadable", "error")]
    assert "segmentation.nii.gz: no such file" in after.findings[0].message
    assert after.stamp != before.stamp


@pytest.mark.slow
def test_a_case_without_label_is_left_out_on_request_and_other_folders_are_named(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    (src / "case_2" / "segmentation.nii.gz").unlink()
    (src / "notes").mkdir()
    with pytest.raises(InputError, match=r"case_2: .*has no label; add it or remove the case.*--skip-bad"):
        prepare(src, tmp_path / "store", CUT)
    summary = prepare(src, tmp_path / "store", CUT, skip_bad=True, splits={"case_2": "train", "case_3": "test"})
    assert [skipped.split(":")[0] for skipped in summary.skipped] == ["case_2"]
    assert sum(summary.num_cases.values()) == 3
    assert any("no case: notes" in note for note in summary.notes)
