"""Tests of shards, index and manifest: a store returns what was written, and nothing damaged is read."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from support.label_values import KIDNEY, TUMOR

from renalnet.config import Normalisation, PrepareConfig
from renalnet.data.images.volume import Grid
from renalnet.data.store.reader import Roi, Store, open_store
from renalnet.data.store.writer import StoreWriter, write_store
from renalnet.errors import BusyError, StoreError
from renalnet.types import SPLITS, Split

CONFIG = PrepareConfig(slab_slices=4)


def random_roi(case: str, split: Split = "train", depth: int = 10) -> Roi:
    shape = (depth, 6, 5 + len(case))
    rng = np.random.default_rng(len(case))
    image = rng.integers(-1024, 2000, shape).astype(np.int16)
    label = rng.integers(0, 3, shape).astype(np.uint8)
    grid = Grid.axis_aligned(shape, (1.0, 0.65, 0.65), (10.0, 20.0, 30.0))
    flipped = Grid(grid.size_xyz, grid.spacing_xyz_mm, (0.1, 0.2, 0.3), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
    return Roi(case, split, image, label, grid, flipped, ("grown",))


def write_three(path: Path) -> Store:
    return write_store(path, [random_roi(split[:-1], split) for split in SPLITS], CONFIG)


def shard_of(store: Store, split: str) -> Path:
    (shard,) = Path(store.path, "shards").glob(f"{split}-*.parquet")
    return shard


@pytest.mark.parametrize("depth", [1, 4, 10])
def test_an_roi_is_read_as_it_was_written(tmp_path: Path, depth: int) -> None:
    original = random_roi("a", depth=depth)
    write_store(tmp_path, [original], CONFIG)
    back = open_store(tmp_path).read("a")
    np.testing.assert_array_equal(back.image, original.image)
    np.testing.assert_array_equal(back.label, original.label)
    assert (back.image.dtype, back.label.dtype) == (np.int16, np.uint8)
    assert (back.grid, back.source, back.split, back.notes) == (
        original.grid,
        original.source,
        "train",
        ("grown",),
    )
    assert back.spacing_mm == (1.0, 0.65, 0.65)


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (3, 9), (4, 8), (9, 10), (5, 5)])
def test_slices_are_read_without_their_neighbours(tmp_path: Path, start: int, stop: int) -> None:
    original = random_roi("a")
    image, label = write_store(tmp_path, [original], CONFIG).read_slices("a", start, stop)
    np.testing.assert_array_equal(image, original.image[start:stop])
    np.testing.assert_array_equal(label, original.label[start:stop])


def test_class_locations_count_the_slabs_and_list_their_voxels(tmp_path: Path) -> None:
    original = random_roi("a")
    store = write_store(tmp_path, [original], CONFIG)
    locations = store.class_locations("a")
    slabs = [original.label[start : start + 4] for start in (0, 4, 8)]
    np.testing.assert_array_equal(locations.counts, [np.bincount(slab.ravel(), minlength=3) for slab in slabs])
    assert locations.starts.tolist() == [0, 4, 8]
    for label in (KIDNEY, TUMOR):
        for start, anchors in zip(locations.starts, locations.anchors(label), strict=True):
            assert anchors.shape == (16, 3) and len(np.unique(anchors, axis=0)) == 16
            assert all(start <= z < start + 4 and original.label[z, y, x] == label for z, y, x in anchors)
    np.testing.assert_array_equal(
        store.read_with_class_locations("a")[1].anchors(TUMOR)[0], locations.anchors(TUMOR)[0]
    )


def test_an_absent_label_has_no_listed_voxel(tmp_path: Path) -> None:
    roi = random_roi("a")
    bare = Roi("a", "train", roi.image, np.minimum(roi.label, 1), roi.grid, roi.grid)
    locations = write_store(tmp_path, [bare], CONFIG).class_locations("a")
    assert [anchors.shape for anchors in locations.anchors(TUMOR)] == [(0, 3)] * 3


def test_each_row_has_its_row_group_and_voxels_have_no_dictionary(tmp_path: Path) -> None:
    metadata = pq.ParquetFile(shard_of(write_three(tmp_path), "train")).metadata
    assert (metadata.num_rows, metadata.num_row_groups) == (3, 3)
    pixels = metadata.row_group(0).column(metadata.row_group(0).num_columns - 2)
    assert (pixels.path_in_schema, pixels.compression) == ("image", "ZSTD")
    assert not pixels.has_dictionary_page
    assert not pixels.is_stats_set
    assert json.loads(metadata.metadata[b"renalnet"])["cases"]["trai"]["grid"]["size_xyz"] == [9, 6, 10]


def test_cases_are_listed_by_split_and_described(tmp_path: Path) -> None:
    store = write_three(tmp_path)
    assert store.cases() == ["tes", "trai", "validatio"]
    assert store.cases("test") == ["tes"]
    assert [roi.case for roi in store.read_split("validation")] == ["validatio"]
    rows = store.describe()
    assert [(row["split"], row["cases"]) for row in rows] == [("train", 1), ("validation", 1), ("test", 1)]
    for row in rows:
        assert row["background"] + row["kidney"] + row["tumor"] == pytest.approx(1)


def test_a_case_is_never_split_over_two_shards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grid = Grid.axis_aligned((16, 200, 200), (1.0, 1.0, 1.0))
    image = rng.integers(-1024, 32767, grid.shape).astype(np.int16)  # noise: about 1.2 MB, compressed or not
    label = np.zeros(grid.shape, np.uint8)
    rois = [Roi(case, "train", image, label, grid, grid) for case in "abc"]
    store = write_store(tmp_path, rois, PrepareConfig(shard_mb=2))
    first, second, third = (entry.shard for entry in store.index.entries())
    assert first == second != third
    np.testing.assert_array_equal(open_store(tmp_path).read("c").image, image)


def test_mean_is_of_clipped_and_scaled_training_voxels_only(tmp_path: Path) -> None:
    grid = Grid.axis_aligned((1, 1, 2), (1.0, 1.0, 1.0))
    label = np.zeros(grid.shape, np.uint8)
    train = Roi("a", "train", np.array([[[-1000, 150]]], np.int16), label, grid, grid)
    test = Roi("b", "test", np.array([[[500, 500]]], np.int16), label, grid, grid)
    normalisation = write_store(tmp_path, [train, test], CONFIG).normalisation
    assert normalisation == Normalisation(-200, 500, 0.25)  # the mean of 0 and (150 + 200) / 700
    np.testing.assert_allclose(normalisation.apply(np.array([-300, 150, 900], np.int16)), [-0.25, 0.25, 0.75])


def test_a_given_normalisation_is_kept_and_one_is_needed(tmp_path: Path) -> None:
    kept = Normalisation(-200, 500, 0.5)
    store = write_store(tmp_path / "a", [random_roi("b", "test")], CONFIG, normalisation=kept)
    assert store.normalisation == kept
    with pytest.raises(StoreError, match="no training ROI to take the mean of"):
        write_store(tmp_path / "b", [random_roi("b", "test")], CONFIG)


def test_fingerprint_changes_with_voxels_and_configuration_only(tmp_path: Path) -> None:
    first = write_store(tmp_path / "a", [random_roi("a")], CONFIG)
    again = write_store(tmp_path / "b", [random_roi("a")], CONFIG)
    other = write_store(tmp_path / "c", [random_roi("aa")], CONFIG)
    config = write_store(tmp_path / "d", [random_roi("a")], PrepareConfig(slab_slices=4, seed=1))
    assert first.fingerprint == again.fingerprint == open_store(tmp_path / "a").fingerprint
    assert len({first.fingerprint, other.fingerprint, config.fingerprint}) == 3


def test_a_store_is_read_through_a_uri(tmp_path: Path) -> None:
    store = write_store(f"file://{tmp_path}/store", [random_roi("a")], CONFIG)
    store.verify()
    np.testing.assert_array_equal(open_store(store.path).read("a").image, random_roi("a").image)
    assert fs.FileSystem.from_uri(store.path)[1] == f"{tmp_path}/store"


def test_an_unfinished_store_cannot_be_opened_and_its_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "train-0123456789abcdef.parquet").write_bytes(b"left over")
    (tmp_path / "shards" / "mine.txt").write_text("not ours")
    with pytest.raises(StoreError, match=r"no store here \(manifest.json is missing\)"):
        open_store(tmp_path)
    store = write_store(tmp_path, [random_roi("a")], CONFIG)
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {"mine.txt", shard_of(store, "train").name}


def interrupted(path: Path, run: str) -> StoreWriter:
    """Return a writer that wrote the shard of case `a`, began that of `bb`, and was then interrupted."""
    writer = StoreWriter(path, PrepareConfig(slab_slices=4, shard_mb=1))
    writer.adopt(run, lambda entry: False)
    big = random_roi("a", depth=4000)
    writer.add(big)
    writer.add(random_roi("bb"))
    return writer


@pytest.mark.slow
def test_complete_shards_of_an_interrupted_run_are_taken_over(tmp_path: Path) -> None:
    interrupted(tmp_path, "run")
    config = PrepareConfig(slab_slices=4, shard_mb=1)
    for name, taken in (("other", set()), ("run", {"a"})):
        writer = StoreWriter(tmp_path, config)
        assert writer.adopt(name, lambda entry: entry.split == "train") == taken
    assert StoreWriter(tmp_path, config).adopt("run", lambda entry: False) == set()
    writer.add(random_roi("bb"))
    resumed = writer.finish()
    undisturbed = write_store(tmp_path / "whole", [random_roi("a", depth=4000), random_roi("bb")], config)
    assert resumed.index.table.drop(["shard"]) == undisturbed.index.table.drop(["shard"])
    np.testing.assert_array_equal(open_store(tmp_path).read("a").image, undisturbed.read("a").image)


def test_a_damaged_shard_of_an_interrupted_run_is_not_taken_over(tmp_path: Path) -> None:
    interrupted(tmp_path, "run")
    (shard,) = (tmp_path / "shards").iterdir()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    assert StoreWriter(tmp_path, CONFIG).adopt("run", lambda entry: True) == set()


def test_cases_are_added_and_nothing_else_changes(tmp_path: Path) -> None:
    before = write_store(tmp_path, [random_roi("a"), random_roi("bb", "test")], CONFIG)
    writer = StoreWriter(tmp_path, CONFIG, base=before)
    writer.add(random_roi("ccc"))
    after = writer.finish(before.normalisation)
    assert after.cases() == ["a", "bb", "ccc"] and after.normalisation == before.normalisation
    assert set(before.manifest.shards) < set(after.manifest.shards)
    np.testing.assert_array_equal(before.read("a").image, open_store(tmp_path).read("a").image)
    with pytest.raises(StoreError, match="case 'a' comes twice"):
        StoreWriter(tmp_path, CONFIG, base=after).add(random_roi("a"))


def test_a_store_is_never_overwritten(tmp_path: Path) -> None:
    write_three(tmp_path)
    with pytest.raises(StoreError, match="holds a store already; choose another folder"):
        write_three(tmp_path)


def test_a_case_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="case 'a' comes twice"):
        write_store(tmp_path, [random_roi("a"), random_roi("a")], CONFIG)


def test_a_truncated_or_missing_shard_is_refused_on_opening(tmp_path: Path) -> None:
    shard = shard_of(write_three(tmp_path), "validation")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"validation-\w+\.parquet: damaged .* bytes where the manifest says"):
        open_store(tmp_path)
    shard.unlink()
    with pytest.raises(StoreError, match=r"validation-\w+\.parquet: damaged or foreign file \(it is missing"):
        open_store(tmp_path)


def test_a_shard_damaged_after_opening_is_refused_on_reading(tmp_path: Path) -> None:
    store = write_three(tmp_path)
    shard = shard_of(store, "validation")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"validation-\w+\.parquet: damaged or foreign file .* restore it"):
        store.read("validatio")


def test_a_foreign_shard_is_refused_on_reading(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a", [random_roi("a")], CONFIG)
    foreign = write_store(tmp_path / "b", [random_roi("b")], CONFIG)
    shard_of(store, "train").write_bytes(shard_of(foreign, "train").read_bytes())
    with pytest.raises(StoreError, match=r"train-\w+\.parquet: damaged or foreign file .*checksum|bytes where"):
        store.read("a")


def test_verify_names_a_shard_with_a_changed_byte(tmp_path: Path) -> None:
    store = write_three(tmp_path)
    store.verify()
    content = bytearray(shard_of(store, "test").read_bytes())
    content[50] ^= 1
    shard_of(store, "test").write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"test-\w+\.parquet: .*checksum"):
        open_store(tmp_path).verify()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("{}", "version None, this program reads 2"),
        ('{"version": 2}', "not understood"),
        ('{"version": 1}', "version 1, this program reads 2"),
    ],
)
def test_a_foreign_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        open_store(tmp_path)


def test_an_unknown_case_names_the_nearest(tmp_path: Path) -> None:
    store = write_store(tmp_path, [random_roi("case_1")], CONFIG)
    with pytest.raises(StoreError, match="no case 'case_2'; did you mean 'case_1'"):
        store.read("case_2")


def test_the_first_of_two_writers_to_commit_wins_and_the_store_stays_whole(tmp_path: Path) -> None:
    first = StoreWriter(tmp_path, CONFIG)
    second = StoreWriter(tmp_path, CONFIG)
    first.add(random_roi("a"))
    second.add(random_roi("bb"))
    first.finish()
    with pytest.raises(BusyError, match="another writer changed the store meanwhile; repeat"):
        second.finish()
    store = open_store(tmp_path)
    store.verify()
    assert store.cases() == ["a"]


def test_a_writer_whose_shards_were_removed_commits_nothing(tmp_path: Path) -> None:
    before = write_store(tmp_path, [random_roi("a")], CONFIG)
    writer = StoreWriter(tmp_path, PrepareConfig(slab_slices=4, shard_mb=1), base=before)
    writer.add(random_roi("bb", depth=4000))
    for shard in tmp_path.glob("shards/*.parquet"):
        if shard.name not in {known.name for known in before.manifest.shards}:
            shard.unlink()
    with pytest.raises(BusyError, match="another writer"):
        writer.finish(before.normalisation)
    assert open_store(tmp_path).manifest == before.manifest


def test_a_store_on_an_object_store(s3_uri: str) -> None:
    original = random_roi("a")
    store = write_store(s3_uri, [original], CONFIG)
    opened = open_store(s3_uri)
    opened.verify()
    assert opened.fingerprint == store.fingerprint
    np.testing.assert_array_equal(opened.read("a").image, original.image)
    assert open_store(s3_uri).class_locations("a").counts.sum() == original.label.size
