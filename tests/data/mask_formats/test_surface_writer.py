"""Surfaces of masks: closed, outward, in place, and of the mask's volume, as trimesh reads them."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from renalnet.data.images.grid import Grid
from renalnet.data.mask_formats.surface_writer import write_surface
from renalnet.types import MaskArray

TURN = np.cos(0.3), np.sin(0.3)
GRIDS = {
    "anisotropic": Grid((20, 16, 12), (0.7, 0.9, 2.5), (-30.0, 12.0, 100.0)),
    "oblique": Grid(
        (20, 16, 12), (0.7, 0.9, 2.5), (4.0, 5.0, 6.0), (TURN[0], -TURN[1], 0, TURN[1], TURN[0], 0, 0, 0, 1)
    ),
    "mirrored": Grid((20, 16, 12), (0.7, 0.9, 2.5), (4.0, 5.0, 6.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
}


def read(path: Path) -> trimesh.Trimesh:
    mesh = trimesh.load_mesh(path, file_type="stl")
    mesh.merge_vertices()
    return mesh


def ellipsoid(radius: tuple[float, float, float] = (5.0, 6.0, 8.0)) -> MaskArray:
    z, y, x = np.ogrid[:12, :16, :20]
    return ((z - 5.5) / radius[0]) ** 2 + ((y - 7.5) / radius[1]) ** 2 + ((x - 9.5) / radius[2]) ** 2 < 1


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_surface_is_closed_outward_in_place_and_of_the_masks_volume(grid: Grid, tmp_path: Path) -> None:
    mask = ellipsoid()
    write_surface(tmp_path / "a.stl", mask, grid, "kidney")
    mesh = read(tmp_path / "a.stl")
    assert mesh.is_watertight and mesh.is_winding_consistent
    # The volume of trimesh is negative for a surface that is inside out.
    assert mesh.volume == pytest.approx(mask.sum() * 0.7 * 0.9 * 2.5, rel=0.01)
    axes = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
    middle = np.array(grid.origin_xyz_mm) + axes @ np.array([9.5, 7.5, 5.5])
    np.testing.assert_allclose(mesh.center_mass, middle, atol=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 4, 4), (2, 3, 9)])
def test_a_mask_that_fills_its_image_is_closed(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """The usual level of 0.5 gives 0.17 for one voxel, and 58.67 for 64."""
    grid = Grid.axis_aligned(shape, (1.0, 1.0, 1.0))
    write_surface(tmp_path / "a.stl", np.ones(shape, bool), grid, "kidney")
    mesh = read(tmp_path / "a.stl")
    assert mesh.is_watertight and mesh.volume == pytest.approx(np.prod(shape), rel=0.02)
    np.testing.assert_allclose(mesh.bounds.mean(axis=0), (np.array(shape[::-1]) - 1) / 2, atol=1e-6)


def test_hollow_and_scattered_masks_are_closed(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    hollow = ellipsoid() & ~ellipsoid((3.0, 3.0, 4.0))
    grid = GRIDS["anisotropic"]
    for mask in (hollow, random.random(grid.shape) < 0.3, random.random(grid.shape) < 0.7):
        write_surface(tmp_path / "a.stl", mask, grid, "kidney")
        mesh = read(tmp_path / "a.stl")
        assert mesh.is_watertight and mesh.volume == pytest.approx(mask.sum() * 0.7 * 0.9 * 2.5, rel=0.04)


def test_the_header_states_label_and_coordinates(tmp_path: Path) -> None:
    write_surface(tmp_path / "a.stl", ellipsoid(), GRIDS["oblique"], "renal artery")
    content = (tmp_path / "a.stl").read_bytes()
    assert content[:80].rstrip() == b"renal artery by renalnet, mm; SPACE=LPS"
    # A file that starts with `solid` would be read as text.
    assert len(content) == 84 + 50 * int.from_bytes(content[80:84], "little")


def test_an_empty_mask_has_no_file_and_removes_an_earlier_one(tmp_path: Path) -> None:
    write_surface(tmp_path / "a.stl", ellipsoid(), GRIDS["oblique"], "tumor")
    for _ in range(2):
        write_surface(tmp_path / "a.stl", np.zeros((12, 16, 20), bool), GRIDS["oblique"], "tumor")
        assert not (tmp_path / "a.stl").exists()
