"""Images and their place in space: reading, writing, turning to the inner axes, resampling, the way back.

SimpleITK does the work; it is imported where it is used.
"""

import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from renalnet.errors import InputError
from renalnet.types import Shape, Triple

Number = TypeVar("Number", int, float)

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID_TOLERANCE_MM = 5e-2
"""Headers round what they store: voxels nearer than this to each other are the same voxel."""
OBLIQUE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie, in ITK's convention: (x, y, z) and LPS millimetres."""

    size_xyz: tuple[int, int, int]
    spacing_xyz_mm: Triple
    origin_xyz_mm: Triple
    direction: tuple[float, ...] = IDENTITY
    """Nine numbers, row by row; column i is the direction of index axis i."""

    @classmethod
    def axis_aligned(cls, shape: Shape, spacing_mm: Triple, origin_mm: Triple = (0.0, 0.0, 0.0)) -> Self:
        """A grid of identity direction from (z, y, x) triples."""
        return cls(_reverse(shape), _reverse(spacing_mm), _reverse(origin_mm))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{name: tuple(value) for name, value in values.items()})

    def to_json(self) -> dict[str, Any]:
        """Plain lists, exact in JSON."""
        return {name: list(value) for name, value in asdict(self).items()}

    @property
    def shape(self) -> Shape:
        """Size as (z, y, x)."""
        return _reverse(self.size_xyz)

    @property
    def spacing_mm(self) -> Triple:
        """Spacing as (z, y, x)."""
        return _reverse(self.spacing_xyz_mm)

    @property
    def origin_mm(self) -> Triple:
        """Centre of the first voxel as (z, y, x)."""
        return _reverse(self.origin_xyz_mm)

    @property
    def is_axis_aligned(self) -> bool:
        """Whether the direction is the identity."""
        return bool(np.allclose(self.direction, IDENTITY, atol=OBLIQUE_TOLERANCE))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(np.prod(self.spacing_xyz_mm)) / 1000.0


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) and its grid; `array.shape == grid.shape`."""

    array: NDArray[Any]
    grid: Grid


def read_volume(path: str | Path) -> Volume:
    """Read a 3D image in any format that SimpleITK knows, on the grid that its file states.

    Raises:
        InputError: the file is missing, unreadable, or not a single-channel 3D image.
    """
    import SimpleITK as sitk

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; name an existing image")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{path}: not readable as an image ({reason}); replace or remove it") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: {image.GetDimension()} dimensions, {image.GetNumberOfComponentsPerPixel()} channels; "
            "a scan or label has 3 dimensions and 1 channel"
        )
    return _from_itk(image)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write an image under a temporary name and rename it; the ending of `path` chooses the format."""
    import SimpleITK as sitk

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.{target.name}")  # keeps the ending, which SimpleITK reads
    try:
        sitk.WriteImage(to_itk(volume), str(temporary), useCompression=True)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def canonical(volume: Volume, *, is_label: bool) -> Volume:
    """The image in LPS with identity direction, z towards the head.

    Permutations and flips of axes move voxels and change none; an oblique image is resampled onto the
    axis-aligned grid of its own spacing that holds all of it.
    """
    import SimpleITK as sitk

    turned = _from_itk(sitk.DICOMOrient(to_itk(volume), "LPS"))
    if turned.grid.is_axis_aligned:
        return turned
    fill = 0.0 if is_label else float(volume.array.min())
    return resample(turned, _enclosing_grid(turned.grid), is_label=is_label, fill=fill)


def resample(volume: Volume, grid: Grid, *, is_label: bool, fill: float = 0.0) -> Volume:
    """The image on another grid: labels by nearest neighbour, intensities linearly, `fill` outside."""
    import SimpleITK as sitk

    reference = sitk.Image(list(grid.size_xyz), sitk.sitkUInt8)
    _place(reference, grid)
    interpolator = sitk.sitkNearestNeighbor if is_label else sitk.sitkLinear
    moved = sitk.Resample(to_itk(volume), reference, sitk.Transform(3, sitk.sitkIdentity), interpolator, fill)
    return Volume(sitk.GetArrayFromImage(moved), grid)


def use_threads(num_threads: int) -> None:
    """Let SimpleITK use this many threads in this process."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(num_threads)


def grid_difference(first: Grid, second: Grid) -> str | None:
    """Words for the first difference of two grids; none where they agree within `GRID_TOLERANCE_MM`."""
    if first.size_xyz != second.size_xyz:
        return f"size {_words(first.size_xyz)} against {_words(second.size_xyz)}"
    size = np.array(first.size_xyz)
    limits = {
        "origin_xyz_mm": GRID_TOLERANCE_MM,
        "spacing_xyz_mm": GRID_TOLERANCE_MM / size.max(),
        "direction": GRID_TOLERANCE_MM / (size * first.spacing_xyz_mm).max(),
    }
    for name, limit in limits.items():
        one, two = getattr(first, name), getattr(second, name)
        if not np.allclose(one, two, atol=limit, rtol=0):
            return f"{name.split('_')[0]} {_words(one)} against {_words(two)}"
    return None


def _enclosing_grid(grid: Grid) -> Grid:
    direction = np.array(grid.direction).reshape(3, 3)
    extent = (np.array(grid.size_xyz) - 1) * np.array(grid.spacing_xyz_mm)
    corners = np.array(np.meshgrid(*([0.0, length] for length in extent), indexing="ij")).reshape(3, -1)
    placed = direction @ corners + np.array(grid.origin_xyz_mm)[:, None]
    low, high = placed.min(axis=1), placed.max(axis=1)
    size = np.ceil((high - low) / np.array(grid.spacing_xyz_mm) - 1e-6).astype(int) + 1
    return Grid(_triple_int(size), grid.spacing_xyz_mm, _triple(low))


def _from_itk(image: Any) -> Volume:
    import SimpleITK as sitk

    grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Volume(sitk.GetArrayFromImage(image), grid)


def to_itk(volume: Volume) -> Any:
    """The volume as a SimpleITK image."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.array)
    _place(image, volume.grid)
    return image


def _place(image: Any, grid: Grid) -> None:
    image.SetSpacing(grid.spacing_xyz_mm)
    image.SetOrigin(grid.origin_xyz_mm)
    image.SetDirection(grid.direction)


def _reverse(values: tuple[Number, Number, Number]) -> tuple[Number, Number, Number]:
    first, second, third = values
    return third, second, first


def _triple(values: NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def _triple_int(values: NDArray[np.int_]) -> Shape:
    return int(values[0]), int(values[1]), int(values[2])


def _words(values: tuple[float, ...]) -> str:
    return "×".join(f"{value:g}" for value in values)
