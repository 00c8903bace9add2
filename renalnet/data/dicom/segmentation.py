"""DICOM segmentation objects as labels on the grid of the CT that they belong to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.dicom.file import parsed
from renalnet.data.images.grid import GRID_TOLERANCE_MM, Grid
from renalnet.data.images.label_values import map_of_segments
from renalnet.errors import InputError
from renalnet.types import LabelArray

if TYPE_CHECKING:
    from pydicom import Dataset

_DIRECTION_TOLERANCE: Final = 1e-3
_MAX_FRAMES: Final = 1 << 16


@dataclass(frozen=True)
class _Frame:
    """Where a frame lies and what its pixels mean."""

    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    segment: int
    """Number of its segment; 0 where the pixels themselves are such numbers."""


@dataclass(frozen=True)
class _Segmentation:
    segments: dict[int, str]
    frames: tuple[_Frame, ...]
    pixels: NDArray[Any]
    """(frames, rows, columns)."""


def read_segmentation(path: Path, grid: Grid, label_map: Mapping[int, int]) -> LabelArray:
    """Labels (z, y, x) on `grid`; segments are told by `label_map` or their names, and tumor lies over kidney.

    Frames may come in any order, and empty ones be left out.

    Raises:
        InputError: the object is damaged or holds probabilities, a segment is neither kidney nor tumor nor
            mapped, or a frame does not coincide with a slice of the grid.
    """
    found = parsed(path, lambda dataset: _segmentation(path, dataset), None)
    meaning = map_of_segments(found.segments, path, label_map)
    label = np.zeros(grid.shape, np.uint8)
    for frame, pixels in zip(found.frames, found.pixels, strict=True):
        if not pixels.any():
            continue  # its place does not matter, and padding frames may have none
        plane = label[_plane(frame, pixels.shape, grid, path)]
        for classes in _classes(frame, pixels, meaning, path):
            np.maximum(plane, classes, out=plane)
    return label


def _classes(
    frame: _Frame, pixels: NDArray[Any], meaning: Mapping[int, int], path: Path
) -> Iterator[NDArray[np.uint8]]:
    numbers = [frame.segment] if frame.segment else np.unique(pixels[pixels > 0]).tolist()
    for number in numbers:
        if number not in meaning:
            raise InputError(f"{path}: a frame of segment {number}, which is not described; export it again")
        is_segment = pixels > 0 if frame.segment else pixels == number
        yield np.where(is_segment, np.uint8(meaning[number]), np.uint8(0))


def _segmentation(path: Path, dataset: "Dataset") -> _Segmentation:
    kind = str(dataset.SegmentationType)
    num_frames = int(dataset.NumberOfFrames)
    if not 1 <= num_frames <= _MAX_FRAMES or kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise InputError(f"{path}: damaged segmentation ({num_frames} frames of type {kind:.20}); export it again")
    shape = num_frames, int(dataset.Rows), int(dataset.Columns)
    pixels = dataset.pixel_array.reshape(shape)
    if kind == "FRACTIONAL" and np.any((pixels > 0) & (pixels < int(dataset.MaximumFractionalValue))):
        raise InputError(f"{path}: holds fractions, not labels; export a binary segmentation")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    frames = tuple(_frame(one, shared, kind == "LABELMAP") for one in dataset.PerFrameFunctionalGroupsSequence)
    if len(frames) != num_frames:
        raise InputError(f"{path}: {num_frames} frames, but places of {len(frames)}; export it again")
    segments = {int(one.SegmentNumber): str(one.SegmentLabel) for one in dataset.SegmentSequence}
    segments.pop(0, None)  # the background of a label map
    return _Segmentation(segments, frames, pixels)


def _frame(own: "Dataset", shared: "Dataset", is_labelmap: bool) -> _Frame:
    """Of a frame's groups; what all frames have in common stands in the shared ones."""
    position = own if "PlanePositionSequence" in own else shared
    orientation = own if "PlaneOrientationSequence" in own else shared
    measures = own if "PixelMeasuresSequence" in own else shared
    identified = own if "SegmentIdentificationSequence" in own else shared
    return _Frame(
        tuple(map(float, position.PlanePositionSequence[0].ImagePositionPatient)),
        tuple(map(float, orientation.PlaneOrientationSequence[0].ImageOrientationPatient)),
        tuple(map(float, measures.PixelMeasuresSequence[0].PixelSpacing)),
        0 if is_labelmap else int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
    )


def _plane(frame: _Frame, shape: tuple[int, ...], grid: Grid, path: Path) -> int:
    """Index of the grid's slice that a frame lies in. Raises InputError where it lies in none."""
    axes = np.array(grid.direction).reshape(3, 3)
    place = ", ".join(f"{value:g}" for value in frame.position_mm)
    apart = np.array(frame.position_mm) - grid.origin_xyz_mm
    index = float(apart @ axes[:, 2]) / grid.spacing_xyz_mm[2]
    nearest = round(index) if np.isfinite(index) else -1
    off_mm = np.linalg.norm(apart - axes[:, 2] * nearest * grid.spacing_xyz_mm[2])
    spacing, directions = grid.spacing_xyz_mm[1::-1], np.concatenate([axes[:, 0], axes[:, 1]])
    reach = max(shape) * np.abs(np.subtract(frame.spacing_mm, spacing)).max()
    turned = np.abs(np.subtract(frame.orientation, directions)).max()
    if shape != grid.shape[1:] or not (reach <= GRID_TOLERANCE_MM and turned <= _DIRECTION_TOLERANCE):
        raise InputError(
            f"{path}: its frames of {shape[0]}×{shape[1]} pixels lie on another grid than the CT's slices of "
            f"{grid.shape[1]}×{grid.shape[2]}; export the segmentation on the CT's grid, labels are never resized"
        )
    if not (off_mm <= GRID_TOLERANCE_MM and 0 <= nearest < grid.shape[0]):
        raise InputError(
            f"{path}: the frame at {place} mm lies in no slice of the CT (off by {off_mm:.3g} mm); "
            "export the segmentation on the CT's grid, labels are never resized"
        )
    return nearest
