"""Stores of other label sets: their columns, their content, and what they refuse."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.label_sets import CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23, LabelSet, PrepareConfig
from renalnet.data.images.volume import Grid
from renalnet.data.store.reader import Roi, Store, open_store
from renalnet.data.store.writer import write_store
from renalnet.errors import StoreError

GRID = Grid.axis_aligned((10, 6, 6), (1.0, 0.65, 0.65))


def roi_with(num_classes: int) -> Roi:
    """Return an ROI of noise that has every class, in each of its three slabs of up to four slices."""
    rng = np.random.default_rng(num_classes)
    image = rng.integers(-1024, 2000, GRID.shape).astype(np.int16)
    label = rng.integers(0, num_classes, GRID.shape).astype(np.uint8)
    return Roi("a", "train", image, label, GRID, GRID)


def write(path: Path, labels: LabelSet, roi: Roi | None = None) -> Store:
    config = PrepareConfig(labels=labels, slab_slices=4)
    return write_store(path, [roi or roi_with(labels.num_classes)], config)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (KIDNEY_TUMOR, ("kidney", "tumor")),
        (KITS23, ("kidney", "tumor", "cyst")),
        (VESSELS, ("kidney", "tumor", "cyst", "renal_artery", "renal_vein")),
    ],
)
def test_every_label_has_its_columns(tmp_path: Path, labels: LabelSet, names: tuple[str, ...]) -> None:
    write(tmp_path, labels)
    (shard,) = tmp_path.glob("shards/*.parquet")
    (index,) = tmp_path.glob("index-*.parquet")
    counts = ["num_background", *(f"num_{name}" for name in names)]
    place = ["config_fingerprint", "z_start", "num_slices", "height", "width"]
    grid = [f"{what}_{axis}_mm" for what in ("spacing", "origin") for axis in "zyx"]
    anchors = [f"{name}_anchors" for name in names]
    assert pq.read_schema(shard).names == ["case", "split", *place, *counts, *grid, *anchors, "image", "label"]
    place = ["shard", "first_row", "num_rows", "depth", "height", "width"]
    origin = ["clipped_sum", "grid", "source", "notes", "stamp", "image_digest", "label_digest"]
    assert pq.read_schema(index).names == ["case", "split", *place, *counts, *origin]


@pytest.mark.parametrize("labels", [KITS23, VESSELS])
def test_a_store_of_another_set_is_read_as_it_was_written(tmp_path: Path, labels: LabelSet) -> None:
    original = roi_with(labels.num_classes)
    write(tmp_path, labels, original)
    store = open_store(tmp_path)
    store.verify()
    assert store.labels == labels
    np.testing.assert_array_equal(store.read("a").label, original.label)
    totals = np.bincount(original.label.ravel(), minlength=labels.num_classes)
    assert store.entry("a").counts == tuple(totals.tolist())
    np.testing.assert_array_equal(store.index.totals("train"), totals)
    np.testing.assert_array_equal(store.index.counts("train"), [totals])


def test_class_locations_list_the_voxels_of_every_label(tmp_path: Path) -> None:
    original = roi_with(VESSELS.num_classes)
    write(tmp_path, VESSELS, original)
    locations = open_store(tmp_path).class_locations("a")
    slabs = [original.label[start : start + 4] for start in (0, 4, 8)]
    np.testing.assert_array_equal(locations.counts, [np.bincount(slab.ravel(), minlength=6) for slab in slabs])
    for value in range(1, 6):
        voxels = np.concatenate(locations.anchors(value))
        assert len(voxels) >= 16 and {int(original.label[tuple(voxel)]) for voxel in voxels} == {value}
    with pytest.raises(IndexError):
        locations.anchors(VEIN + 1)


def test_a_store_is_described_by_the_names_of_its_labels(tmp_path: Path) -> None:
    label = np.zeros(GRID.shape, np.uint8)
    label[0] = CYST  # a tenth of the voxels
    label[1:3] = 1
    roi = roi_with(4)
    (row,) = write(tmp_path, KITS23, Roi("a", "train", roi.image, label, GRID, GRID)).describe()
    assert list(row)[3:7] == ["background", "kidney", "tumor", "cyst"]
    assert [row[name] for name in KITS23.class_names] == pytest.approx([0.7, 0.2, 0.0, 0.1])


def test_a_label_that_the_set_lacks_is_refused(tmp_path: Path) -> None:
    message = r"case 'a': label 3 is none of kidney_tumor \(1 kidney, 2 tumor\); choose a label set that has it"
    with pytest.raises(StoreError, match=message):
        write(tmp_path, KIDNEY_TUMOR, roi_with(4))
    assert not (tmp_path / "manifest.json").exists()


def test_the_set_is_part_of_the_identity_of_a_store(tmp_path: Path) -> None:
    roi = roi_with(3)
    stores = [write(tmp_path / labels.name, labels, roi) for labels in (KIDNEY_TUMOR, KITS23)]
    assert stores[0].fingerprint != stores[1].fingerprint


def change_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change the configuration in a manifest, with the checksum that belongs to it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"]
    change(manifest["config"])
    checksum = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "checksum": checksum}))


def test_a_store_from_before_label_sets_has_the_default_one(tmp_path: Path) -> None:
    written = write(tmp_path, KIDNEY_TUMOR)
    change_manifest(tmp_path, lambda config: config.pop("labels"))
    opened = open_store(tmp_path)
    assert (opened.labels, opened.fingerprint) == (KIDNEY_TUMOR, written.fingerprint)
    np.testing.assert_array_equal(opened.read("a").label, roi_with(3).label)


def test_a_manifest_that_states_another_set_is_refused(tmp_path: Path) -> None:
    write(tmp_path, KITS23)
    change_manifest(tmp_path, lambda config: config.update(labels="kidney_tumor"))
    with pytest.raises(StoreError, match=r"index-\w+\.parquet: .*the columns are not those of an index"):
        open_store(tmp_path)
