"""The fingerprint of a store: one for the same scans wherever they are; stores of older versions keep theirs."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from renalnet.config import PrepareConfig, fingerprint
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.data.prepare.preparation import local_pool, prepare
from renalnet.data.prepare.request import Request
from renalnet.data.store.index import Origin
from renalnet.data.store.reader import Roi, Store, open_store
from renalnet.data.store.writer import StoreWriter
from renalnet.runtime.workers import Workers

CUT = PrepareConfig(spacing_mm=None, localise="cut", num_atlases=1, slab_slices=4)
GRID = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with local_pool(1) as workers:
        yield workers


def write_scan(folder: Path, seed: int) -> None:
    image = np.random.default_rng(seed).integers(-1000, 500, GRID.shape).astype(np.int16)
    label = np.zeros(GRID.shape, np.uint8)
    label[2:10, 5:35, 5 : 35 - seed] = 1
    label[4:6, 10:20, 10:20] = 2
    image[label > 0] = 150 + 20 * seed
    write_volume(folder / "imaging.nii.gz", Volume(image, GRID))
    write_volume(folder / "segmentation.nii.gz", Volume(label, GRID))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(4):
        write_scan(folder / f"case_{seed}", seed)
    return folder


def prepared(scans: Path, out: Path, pool: Workers, config: PrepareConfig = CUT) -> Store:
    prepare(Request(scans, out, config), pool)
    return open_store(out)


def by_shards(store: Store) -> str:
    """Return the fingerprint that versions before this one computed: of the configuration, the mean and the shards."""
    manifest = store.manifest
    parts = [fingerprint(manifest.config), asdict(manifest.normalisation), [asdict(each) for each in manifest.shards]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def make_older(folder: Path) -> Store:
    """Turn a store into one of an older version: its manifest has no hash of the cases."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"], manifest["content"]
    checksum = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "checksum": checksum}))
    return open_store(folder)


@pytest.mark.slow
def test_copies_of_the_scans_are_one_data_set(scans: Path, pool: Workers, tmp_path: Path) -> None:
    copies = Path(shutil.copytree(scans, tmp_path / "copies"))
    for file in copies.rglob("*.nii.gz"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    first, second = prepared(scans, tmp_path / "a", pool), prepared(copies, tmp_path / "b", pool)
    assert first.manifest.shards != second.manifest.shards
    assert first.fingerprint == second.fingerprint


@pytest.mark.slow
def test_cases_that_were_added_later_do_not_matter(scans: Path, pool: Workers, tmp_path: Path) -> None:
    whole = prepared(scans, tmp_path / "whole", pool)
    part = tmp_path / "part"
    for case in ("case_0", "case_1", "case_2"):
        shutil.copytree(scans / case, part / case)
    splits = whole.index.splits()
    named = {path.name: splits[path.name] for path in part.iterdir()}
    prepare(Request(part, tmp_path / "added", CUT, splits=named), pool)
    before = open_store(tmp_path / "added")
    shutil.copytree(scans / "case_3", part / "case_3")
    request = Request(part, tmp_path / "added", CUT, splits={"case_3": splits["case_3"]}, refit=True)
    prepare(request, pool)
    after = open_store(tmp_path / "added")
    assert before.fingerprint != after.fingerprint == whole.fingerprint
    assert len(after.manifest.shards) > len(whole.manifest.shards)


def written(folder: Path, change: dict[str, Any], origin: Origin, config: PrepareConfig = CUT) -> str:
    voxels = np.arange(8 * 4 * 4, dtype=np.int16).reshape(8, 4, 4)
    grid = Grid.axis_aligned((8, 4, 4), (1.0, 1.0, 1.0))
    writer = StoreWriter(folder, config)
    writer.add(replace(Roi("a", "train", voxels, (voxels % 3).astype(np.uint8), grid, grid), **change), origin)
    other = Roi("b", "train", voxels, (voxels % 3).astype(np.uint8), grid, grid)
    writer.add(other, Origin("", "image", "label"))
    return writer.finish().fingerprint


def test_each_part_of_a_case_counts_and_the_stamp_of_its_files_does_not(tmp_path: Path) -> None:
    origin = Origin("stamp", "image", "label")
    wide = Grid.axis_aligned((8, 4, 4), (1.0, 1.0, 1.01))
    first = written(tmp_path / "first", {}, origin)
    others = [
        written(tmp_path / str(number), change, found, config)
        for number, (change, found, config) in enumerate(
            [
                ({"case": "c"}, origin, CUT),
                ({"split": "test"}, origin, CUT),
                ({"grid": wide}, origin, CUT),
                ({"source": wide}, origin, CUT),
                ({"label": np.zeros((8, 4, 4), np.uint8)}, origin, CUT),
                ({}, Origin("stamp", "other", "label"), CUT),
                ({}, Origin("stamp", "image", "other"), CUT),
                ({}, origin, CUT.model_copy(update={"slab_slices": 3})),
            ]
        )
    ]
    assert len({first, *others}) == 1 + len(others)
    assert written(tmp_path / "touched", {"notes": ("grown",)}, replace(origin, stamp="other")) == first


def test_voxels_without_hashes_of_their_scan_are_identified_by_the_shards(tmp_path: Path) -> None:
    voxels = np.arange(8 * 4 * 4, dtype=np.int16).reshape(8, 4, 4)
    # Reversed voxels have the same sum, which is all that the index has of the image.
    fingerprints = {written(tmp_path / str(step), {"image": voxels[::step]}, Origin()) for step in (1, -1)}
    assert len(fingerprints) == 2


@pytest.mark.slow
def test_an_older_store_keeps_its_fingerprint_and_so_do_cases_added_to_it(
    scans: Path, pool: Workers, tmp_path: Path
) -> None:
    new = prepared(scans, tmp_path / "store", pool)
    older = make_older(tmp_path / "store")
    assert older.fingerprint == by_shards(older) != new.fingerprint
    more = Path(shutil.copytree(scans, tmp_path / "more"))
    write_scan(more / "case_4", 4)
    added = prepared(more, tmp_path / "store", pool)
    assert added.cases() == [f"case_{number}" for number in range(5)]
    assert added.manifest.content == "" and added.fingerprint == by_shards(added)
