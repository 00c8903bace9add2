"""Writer of surfaces (STL): the closed surface of each label, for viewers and printers."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from renalnet.data.images.grid import Grid
from renalnet.runtime import storage
from renalnet.types import MaskArray

_LEVELS: Final = (0.01, 0.99)
"""Range of the level that is tried. It moves the surface between the centres of the voxels outside and inside."""
_LEVEL_STEP: Final = 0.005
"""Precision of the level. For a single voxel it is 1.7 % of the volume, and less for all larger masks."""
_RECORD: Final = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER_BYTES: Final = 80


def write_surface(path: str | Path, mask: MaskArray, grid: Grid, name: str) -> None:
    """Write the surface of a mask as binary STL in mm, in the patient coordinates of the scan (LPS).

    3D Slicer reads STL as LPS unless its header states otherwise. This header states LPS, in Slicer's words.
    An empty mask has no surface: no file is written, and one of an earlier mask is removed.

    Args:
        path: local path or URI. It is written completely or not at all.
        mask: boolean (z, y, x).
        grid: its grid.
        name: name of the label, which the header states.
    """
    if not mask.any():
        storage.delete(path)
        return
    triangles = closed_surface(mask, grid)
    records = np.zeros(len(triangles), _RECORD)
    records["corners"] = triangles
    records["normal"] = _normals(triangles)
    header = f"{name} by renalnet, mm; SPACE=LPS".encode("ascii", "replace")[:_HEADER_BYTES].ljust(_HEADER_BYTES)
    storage.write_bytes(path, header + np.uint32(len(records)).astype("<u4").tobytes() + records.tobytes())


def closed_surface(mask: MaskArray, grid: Grid) -> NDArray[np.float64]:
    """Return the triangles (n, 3, 3) of a mask's surface as corners (x, y, z) in LPS mm.

    Marching cubes (Lewiner et al., 2003) find the surface. Its level is the one at which the surface encloses the
    volume of the mask; at the usual one of 0.5, a ball of five voxels in diameter loses a tenth. The surface is closed,
    also where the mask meets the border of the image, and the corners of a triangle run counter-clockwise as seen from
    outside.

    Args:
        mask: boolean (z, y, x), not empty.
        grid: its grid.
    """
    (box,) = ndimage.find_objects(mask.astype(np.int8))
    padded = np.pad(mask[box], 1).astype(np.float32)
    level = optimize.brentq(lambda level: _volume(_marched(padded, level)) - mask.sum(), *_LEVELS, xtol=_LEVEL_STEP)
    # The border comes before the first voxel of the box.
    indices = _marched(padded, level)[:, :, ::-1] + [span.start - 1 for span in reversed(box)]
    axes = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
    placed = np.array(grid.origin_xyz_mm) + indices @ axes.T
    return np.asarray(placed if np.linalg.det(axes) > 0 else placed[:, ::-1])


def _marched(padded: NDArray[np.float32], level: float) -> NDArray[np.float64]:
    """Return the triangles (n, 3, 3) as indices (z, y, x), outward once the axes are reversed to (x, y, z)."""
    from skimage.measure import marching_cubes

    corners, triangles, _, _ = marching_cubes(padded, level)  # type: ignore[no-untyped-call]
    return np.asarray(np.asarray(corners, dtype=np.float64)[triangles])


def _volume(triangles: NDArray[np.float64]) -> float:
    """Return the volume in voxels: the sum of the tetrahedra from the origin to each triangle."""
    return abs(float(np.linalg.det(triangles).sum())) / 6


def _normals(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second, third = triangles.transpose(1, 0, 2)
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0))
