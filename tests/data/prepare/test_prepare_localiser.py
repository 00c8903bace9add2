"""The localiser of a store: its file, its training, and the scans that it names."""

from pathlib import Path

import numpy as np
import pytest
from support.coarse_scans import a_scan

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.cases.layouts import find_cases
from renalnet.data.cases.loading import load_case
from renalnet.data.images.volume import Volume, write_volume
from renalnet.data.phantom import paint_abdomen
from renalnet.data.prepare.localiser_jobs import (
    CoarseJob,
    LocaliserJob,
    coarse_of,
    localiser_key,
    localiser_of,
    phantom_jobs,
    trained_before,
)
from renalnet.data.prepare.place_checks import check_place
from renalnet.data.prepare.preparation import local_pool, prepare
from renalnet.data.prepare.request import Request
from renalnet.data.store.reader import open_store
from renalnet.localiser.bundle_files import LOCALISER_FILE, packaged_localiser, write_finder_files
from renalnet.localiser.network import load_network, packaged_network

PHANTOM = PhantomConfig(shape=(100, 124, 124), spacing_mm=(3.0, 3.0, 3.0), seed=77)
CONFIG = PrepareConfig(spacing_mm=(4.0, 3.0, 3.0), num_atlases=1, localiser_steps=0)
FIRST = CONFIG.model_copy(update={"localiser_start": "random", "localiser_steps": 2})


def write_case(folder: Path, index: int, turn: slice = slice(None)) -> None:
    """Write a painted case, whose rows may be turned from back to front."""
    case = paint_abdomen(PHANTOM, index)
    for name, volume in (("imaging", case.image), ("segmentation", case.label)):
        array = np.ascontiguousarray(volume.array[:, turn])
        write_volume(folder / f"{name}.nii.gz", Volume(array, volume.grid))


@pytest.mark.slow
def test_a_store_and_its_bundle_have_the_network(tmp_path: Path) -> None:
    for index in (1, 2):
        write_case(tmp_path / "src" / f"c{index}", index)
    with local_pool(1) as pool:
        prepare(Request(tmp_path / "src", tmp_path / "store", CONFIG), pool)
    store = open_store(str(tmp_path / "store"))
    store.verify()
    assert store.manifest.localiser
    assert store.read_beside(store.manifest.localiser) == Path(packaged_localiser()).read_bytes()
    write_finder_files(store, str(tmp_path / "bundle"))
    assert load_network(tmp_path / "bundle" / LOCALISER_FILE).about == packaged_network().about
    assert all("localisation" not in note for case in store.cases() for note in store.entry(case).notes)


@pytest.mark.slow
def test_scans_with_wrong_axes_are_refused_and_others_are_not(tmp_path: Path) -> None:
    write_case(tmp_path / "right", 2)
    write_case(tmp_path / "turned", 2, slice(None, None, -1))
    right, turned = (load_case(case) for case in find_cases(tmp_path, labels=CONFIG.labels).cases)
    assert check_place(right) == []
    (finding,) = check_place(turned)
    assert (finding.level, finding.code) == ("error", "wrong-axes")
    assert finding.message.startswith("the scan is back to front: ")


@pytest.mark.slow
def test_a_label_without_a_kidney_is_a_warning(tmp_path: Path) -> None:
    case = paint_abdomen(PHANTOM, 2)
    label = np.zeros_like(case.label.array)
    label[5:15, 40:60, 50:70] = 1  # in the pelvis
    write_volume(tmp_path / "a" / "imaging.nii.gz", case.image)
    write_volume(tmp_path / "a" / "segmentation.nii.gz", Volume(label, case.label.grid))
    (found,) = find_cases(tmp_path, labels=CONFIG.labels).cases
    (finding,) = check_place(load_case(found))
    assert (finding.level, finding.code) == ("warning", "label-elsewhere")
    assert "hold 0% of the label" in finding.message


def test_six_abdomens_bring_one_of_each_other_part() -> None:
    names = [str(job) for job in phantom_jobs(12)]
    assert names == [f"abdomen-{n}" for n in range(12)] + [
        f"{part}-{n}" for part in ("head", "chest", "legs") for n in range(2)
    ]


@pytest.mark.parametrize("part", [None, "legs"])
def test_painted_scans_are_on_the_coarse_grid(part: str | None) -> None:
    scan = coarse_of(CoarseJob(None, part, 0))  # type: ignore[arg-type]
    assert scan.image.grid.spacing_mm == (6.0, 6.0, 6.0)
    assert scan.sides.array.any() == (part is None)


@pytest.mark.slow
def test_a_network_is_trained_once(tmp_path: Path) -> None:
    key = localiser_key(FIRST, ["a", "b"])
    content = localiser_of(LocaliserJob((a_scan(),), FIRST, key))
    assert content != Path(packaged_localiser()).read_bytes()
    assert trained_before(str(tmp_path), key) is None
    (tmp_path / f"localiser-{'0' * 16}.safetensors").write_bytes(b"half written")
    (tmp_path / f"localiser-{'1' * 16}.safetensors").write_bytes(content)
    assert trained_before(str(tmp_path), key) == content
    for other in (localiser_key(FIRST, ["a"]), localiser_key(CONFIG, ["a", "b"])):
        assert trained_before(str(tmp_path), other) is None


def test_without_scans_the_packaged_network_is_taken() -> None:
    assert localiser_of(LocaliserJob((), CONFIG, "")) == Path(packaged_localiser()).read_bytes()
