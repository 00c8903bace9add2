"""Geometry: reorientation to canonical axes is exact, and so is the way back."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.grids import ORIENTATIONS, ORIGIN, SPACING, oriented_grid

from renalnet.config import PrepareConfig
from renalnet.data.cases.loading import ScanCase, load_case
from renalnet.data.cases.roi import cut_roi
from renalnet.data.images.volume import Grid, Volume, canonical, grid_difference, read_volume, resample, write_volume
from renalnet.data.store.reader import Roi, open_store
from renalnet.data.store.writer import write_store
from renalnet.errors import InputError
from renalnet.runtime.storage import FULL

OWN_SPACING = PrepareConfig(localise="cut", spacing_mm=None, slab_slices=2)


def random_pair(grid: Grid, seed: int = 0) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(seed)
    image = rng.integers(-1024, 2000, grid.shape).astype(np.int16)
    return Volume(image, grid), Volume(rng.integers(0, 3, grid.shape).astype(np.uint8), grid)


def write_pair(folder: Path, image: Volume, label: Volume) -> ScanCase:
    scan = ScanCase("case", folder / "imaging.nii.gz", folder / "segmentation.nii.gz")
    write_volume(scan.image, image)
    write_volume(scan.label, label)
    return scan


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_a_store_keeps_voxels_and_geometry_exactly(
    tmp_path: Path, axes: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    scan = write_pair(tmp_path, *random_pair(oriented_grid(axes, flips)))
    loaded = load_case(scan)
    cut = cut_roi(loaded, None, OWN_SPACING)
    write_store(
        tmp_path / "store",
        [Roi("case", "train", cut.image, cut.label, cut.grid, loaded.source)],
        OWN_SPACING,
    )
    roi = open_store(tmp_path / "store").read("case")
    for stored, path, is_label in ((roi.label, scan.label, True), (roi.image, scan.image, False)):
        original = read_volume(path)
        back = resample(Volume(stored, roi.grid), roi.source, is_label=is_label)
        assert grid_difference(back.grid, original.grid) is None
        np.testing.assert_array_equal(back.array, original.array)


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS[::5])
def test_canonical_is_upright_and_keeps_each_voxel_in_its_place(axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    grid = oriented_grid(axes, flips)
    image, _ = random_pair(grid)
    upright = canonical(image, is_label=False)
    assert upright.grid.is_axis_aligned
    index = np.array([1, 2, 4])  # (x, y, z) along the axes of the file
    world = np.array(ORIGIN) + np.array(grid.direction).reshape(3, 3) @ (index * SPACING)
    x, y, z = np.rint((world - upright.grid.origin_xyz_mm) / upright.grid.spacing_xyz_mm).astype(int)
    assert upright.array[z, y, x] == image.array[4, 2, 1]


def test_grid_triples_are_reversed_and_survive_json() -> None:
    grid = Grid.axis_aligned((4, 5, 6), (3.0, 2.0, 1.0), (30.0, 20.0, 10.0))
    assert grid.size_xyz == (6, 5, 4)
    assert grid.spacing_xyz_mm == (1.0, 2.0, 3.0)
    assert grid.origin_mm == (30.0, 20.0, 10.0)
    assert grid.voxel_ml == pytest.approx(0.006)
    assert Grid.from_json(grid.to_json()) == grid


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Grid.axis_aligned((4, 5, 7), (3.0, 2.0, 1.0)), "size 6×5×4 against 7×5×4"),
        (Grid.axis_aligned((4, 5, 6), (3.0, 2.0, 1.05)), "spacing"),
        (Grid.axis_aligned((4, 5, 6), (3.0, 2.0, 1.0), (0.0, 0.0, 0.5)), "origin"),
        (Grid((6, 5, 4), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)), "direction"),
    ],
)
def test_grid_difference_names_the_first_difference(other: Grid, words: str) -> None:
    difference = grid_difference(Grid.axis_aligned((4, 5, 6), (3.0, 2.0, 1.0)), other)
    assert difference is not None
    assert difference.startswith(words)


def test_grid_difference_forgives_rounding_but_not_a_drift_over_many_voxels() -> None:
    grid = Grid.axis_aligned((500, 500, 500), (1.0, 0.703125, 0.703125))
    assert grid_difference(grid, Grid.axis_aligned((500, 500, 500), (1.0, 0.70313, 0.70313))) is None
    assert grid_difference(grid, Grid.axis_aligned((500, 500, 500), (1.0, 0.7041, 0.703125))) is not None


def test_oblique_scan_becomes_upright_and_keeps_its_centre_of_mass() -> None:
    cosine, sine = np.cos(0.2), np.sin(0.2)
    tilted = (1.0, 0.0, 0.0, 0.0, float(cosine), float(-sine), 0.0, float(sine), float(cosine))
    grid = Grid((30, 30, 30), (2.0, 2.0, 2.0), (5.0, -7.0, 11.0), tilted)
    array = np.zeros(grid.shape, np.uint8)
    array[10:18, 12:20, 8:20] = 1
    upright = canonical(Volume(array, grid), is_label=True)
    assert upright.grid.is_axis_aligned
    centre = np.argwhere(upright.array).mean(axis=0) * upright.grid.spacing_mm + upright.grid.origin_mm
    expected = np.array(grid.origin_xyz_mm) + np.array(tilted).reshape(3, 3) @ (np.array([13.5, 15.5, 13.5]) * 2)
    np.testing.assert_allclose(centre[::-1], expected, atol=0.5)
    assert upright.array.sum() == pytest.approx(array.sum(), rel=0.05)


def test_resample_fills_voxels_outside_the_extent() -> None:
    grid = Grid.axis_aligned((2, 2, 2), (1.0, 1.0, 1.0))
    volume = Volume(np.full((2, 2, 2), 7, np.int16), grid)
    wider = Grid.axis_aligned((2, 2, 4), (1.0, 1.0, 1.0), (0.0, 0.0, -1.0))
    moved = resample(volume, wider, is_label=False, fill=-1024)
    assert moved.array[0, 0].tolist() == [-1024, 7, 7, -1024]


def test_written_volume_reads_back_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    image, _ = random_pair(oriented_grid((2, 0, 1), (1, -1, 1)))
    write_volume(tmp_path / "deep" / "image.nii.gz", image)
    back = read_volume(tmp_path / "deep" / "image.nii.gz")
    np.testing.assert_array_equal(back.array, image.array)
    assert grid_difference(back.grid, image.grid) is None
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["image.nii.gz"]


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Make writes beyond a file size fail, as on a full disk. The system reports EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "mask.nrrd", "mask.mha"])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, share: float
) -> None:
    grid = Grid.axis_aligned((32, 32, 32), (1.0, 1.0, 1.0))
    mask = Volume(np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8), grid)
    write_volume(tmp_path / name, mask)
    num_bytes = (tmp_path / name).stat().st_size
    other = Volume(np.roll(mask.array, 1), grid)
    with files_of_at_most(int(num_bytes * share)), pytest.raises(OSError, match=name) as raised:
        write_volume(tmp_path / name, other)
    assert raised.value.errno in FULL
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, mask.array)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_target_that_is_a_folder_raises_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "mask.nii.gz").mkdir()
    image, _ = random_pair(oriented_grid((2, 0, 1), (1, -1, 1)))
    with pytest.raises(IsADirectoryError, match=r"mask\.nii\.gz"):
        write_volume(tmp_path / "mask.nii.gz", image)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.nii\.gz: no such file"):
        read_volume(tmp_path / "absent.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"broken\.nii\.gz: not readable as an image"):
        read_volume(tmp_path / "broken.nii.gz")
