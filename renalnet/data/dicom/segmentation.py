"""Reader of DICOM segmentation objects: labels on the grid of the CT that the object refers to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.data.dicom.file import read_dicom
from renalnet.data.images.grid import GRID_TOLERANCE_MM, Grid
from renalnet.data.images.label_values import classes_of_segments
from renalnet.errors import InputError
from renalnet.types import LabelArray

if TYPE_CHECKING:
    from pydicom import Dataset

_DIRECTION_TOLERANCE: Final = 1e-3
"""Largest difference between two direction cosines that counts as rounding."""
_REFERENCES: Final = (
    "ReferencedSeriesSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_MAX_FRAMES: Final = 1 << 16
"""Limit that keeps a damaged header from allocating memory."""


@dataclass(frozen=True)
class _Frame:
    """Geometry of a frame, and the meaning of its pixels."""

    position_mm: tuple[float, ...]
    """Centre of the first pixel (x, y, z), in LPS mm."""
    orientation: tuple[float, ...]
    """Direction along a row (x, y, z), then along a column."""
    spacing_mm: tuple[float, ...]
    """Distance between rows, then between columns."""
    segment: int
    """Number of its segment, or 0 if the pixels are segment numbers (label maps)."""


@dataclass(frozen=True)
class _Segmentation:
    segments: dict[int, str]
    frames: tuple[_Frame, ...]
    pixels: NDArray[Any]
    """(frames, rows, columns)."""


def referenced_uids(path: Path) -> frozenset[str]:
    """Return the UIDs of the series and images that a segmentation object refers to; empty if it states none.

    They are in ReferencedSeriesSequence (DICOM PS3.3, C.12.2.1), or, where a writer left that out, in the derivation of
    the frames.

    Raises:
        InputError: the object is damaged.
    """
    return read_dicom(path, lambda dataset: frozenset(_referenced(dataset)) - {""}, _REFERENCES)


def _referenced(dataset: "Dataset") -> Iterator[str]:
    for series in dataset.get("ReferencedSeriesSequence") or ():
        yield str(series.get("SeriesInstanceUID", ""))
        for image in series.get("ReferencedInstanceSequence") or ():
            yield str(image.get("ReferencedSOPInstanceUID", ""))
    if not dataset.get("ReferencedSeriesSequence"):
        groups = [dataset.get(name) or () for name in _REFERENCES[1:]]
        derived = [one for group in groups for frame in group for one in frame.get("DerivationImageSequence") or ()]
        for image in (image for one in derived for image in one.get("SourceImageSequence") or ()):
            yield str(image.get("ReferencedSOPInstanceUID", ""))


def read_segmentation(
    path: Path, grid: Grid, labels: LabelSet, label_map: Mapping[int, int], direction_error: float = 0.0
) -> LabelArray:
    """Return the labels of a segmentation object on `grid`, uint8 (z, y, x).

    A segment's class is the one in `label_map`, otherwise the one that its name states. Where segments overlap, the
    more important label is kept (`LabelSet.by_rank`), such as the tumor before the kidney. Frames may have any order,
    and empty frames may be missing. Directions of frames may differ from those of the grid by `direction_error`, in
    radians (see `SeriesVolume`).

    Raises:
        InputError: the object is damaged or contains probabilities; a segment is not in `label_map` and its name is
            not that of a label; or a frame does not coincide with a slice of the grid.
    """
    found = read_dicom(path, lambda dataset: _segmentation(path, dataset), None)
    meaning = classes_of_segments(found.segments, path, labels, label_map)
    ranks = np.zeros(grid.shape, np.uint8)
    for frame, pixels in zip(found.frames, found.pixels, strict=True):
        if not pixels.any():
            continue  # writers may add empty padding frames, which need no valid position
        plane = ranks[_slice_index(frame, pixels.shape, grid, direction_error, path)]
        for classes in _classes(frame, pixels, meaning, path):
            np.maximum(plane, labels.to_ranks(classes), out=plane)
    return labels.from_ranks(ranks)


def _classes(
    frame: _Frame, pixels: NDArray[Any], meaning: Mapping[int, int], path: Path
) -> Iterator[NDArray[np.uint8]]:
    numbers = [frame.segment] if frame.segment else np.unique(pixels[pixels > 0]).tolist()
    for number in numbers:
        if number not in meaning:
            raise InputError(
                f"{path}: a frame refers to segment {number}, which the object does not describe; export it again"
            )
        is_segment = pixels > 0 if frame.segment else pixels == number
        yield np.where(is_segment, np.uint8(meaning[number]), np.uint8(0))


def _segmentation(path: Path, dataset: "Dataset") -> _Segmentation:
    kind = str(dataset.SegmentationType)
    num_frames = int(dataset.NumberOfFrames)
    if not 1 <= num_frames <= _MAX_FRAMES or kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise InputError(f"{path}: damaged segmentation ({num_frames} frames of type {kind:.20}); export it again")
    shape = num_frames, int(dataset.Rows), int(dataset.Columns)
    pixels = dataset.pixel_array.reshape(shape)
    # Some writers store binary masks as fractions of 0 and the maximum; only those are labels.
    if kind == "FRACTIONAL" and np.any((pixels > 0) & (pixels < int(dataset.MaximumFractionalValue))):
        raise InputError(f"{path}: holds fractions instead of labels; export a binary segmentation")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    frames = tuple(_frame(one, shared, kind == "LABELMAP") for one in dataset.PerFrameFunctionalGroupsSequence)
    if len(frames) != num_frames:
        raise InputError(f"{path}: {num_frames} frames, but positions of {len(frames)} frames; export it again")
    segments = {int(one.SegmentNumber): str(one.SegmentLabel) for one in dataset.SegmentSequence}
    segments.pop(0, None)  # the background of a label map, which DICOM describes like a segment
    return _Segmentation(segments, frames, pixels)


def _frame(own: "Dataset", shared: "Dataset", is_labelmap: bool) -> _Frame:
    """Return a frame from its own functional groups, or the shared ones, which hold what all frames have in common."""
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


def _slice_index(frame: _Frame, shape: tuple[int, ...], grid: Grid, direction_error: float, path: Path) -> int:
    """Return the index of the grid's slice that contains a frame.

    Raises:
        InputError: the frame's pixels are not those of a slice. Labels are never resampled to fit.
    """
    _check_in_plane_grid(frame, shape, grid, max(_DIRECTION_TOLERANCE, direction_error), path)
    normal = np.array(grid.direction).reshape(3, 3)[:, 2]
    apart = np.array(frame.position_mm) - grid.origin_xyz_mm
    index = float(apart @ normal) / grid.spacing_xyz_mm[2]
    nearest = round(index) if np.isfinite(index) else -1
    off_mm = np.linalg.norm(apart - normal * nearest * grid.spacing_xyz_mm[2])
    if not (off_mm <= GRID_TOLERANCE_MM and 0 <= nearest < grid.shape[0]):
        position = ", ".join(f"{value:g}" for value in frame.position_mm)
        raise InputError(
            f"{path}: the frame at {position} mm matches no slice of the CT (off by {off_mm:.3g} mm); "
            "export the segmentation on the CT's grid, labels are never resized"
        )
    return nearest


def _check_in_plane_grid(
    frame: _Frame, shape: tuple[int, ...], grid: Grid, direction_tolerance: float, path: Path
) -> None:
    # DICOM states the spacing between rows first, which is that along y; ITK states that along x first.
    spacing = grid.spacing_xyz_mm[1::-1]
    axes = np.array(grid.direction).reshape(3, 3)
    directions = np.concatenate([axes[:, 0], axes[:, 1]])
    # A difference of the spacing adds up to the last pixel.
    drift_mm = max(shape) * np.abs(np.subtract(frame.spacing_mm, spacing)).max()
    turned = np.abs(np.subtract(frame.orientation, directions)).max()
    if shape != grid.shape[1:] or not (drift_mm <= GRID_TOLERANCE_MM and turned <= direction_tolerance):
        raise InputError(
            f"{path}: its frames of {shape[0]}×{shape[1]} pixels are on another grid than the CT's slices of "
            f"{grid.shape[1]}×{grid.shape[2]}; export the segmentation on the CT's grid, labels are never resized"
        )
