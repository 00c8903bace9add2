"""Segmentations of 3D Slicer (`.seg.nrrd`): NRRD files whose headers name the segments.

The format is described in Slicer's developer guide (slicer.readthedocs.io, Segmentations). A header has the pairs
`SegmentN_Name`, `SegmentN_LabelValue` and `SegmentN_Layer`. Slicer numbers the segments in the order in which they
were drawn, so a value has no meaning of its own. Segments that overlap are in different layers, along a further axis.
The array covers only the extent of the segments, and its origin places it in the scan.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.data.images.grid import Volume
from renalnet.data.images.image_file import read_nrrd_layers
from renalnet.data.images.label_values import class_of_segment_name, classes_of_segments
from renalnet.data.images.text_header import nrrd_pairs, repeated_nrrd_keys
from renalnet.errors import InputError

_ENDINGS: Final = (".nrrd", ".nhdr")
_KEY: Final = re.compile(r"Segment(\d{1,6})_ID")
_ANY_KEY: Final = re.compile(r"Segment\d{1,6}_(ID|Name|LabelValue|Layer)")
_UNNAMED: Final = re.compile(r"segment[ _]?\d*", re.IGNORECASE)
"""Names that Slicer gives to new segments."""
_TERMINOLOGY: Final = "TerminologyEntry:"
_REPRESENTATIONS: Final = ("Segmentation_SourceRepresentation", "Segmentation_MasterRepresentation")
"""Keys of what the file stores; the second one is that of older versions of Slicer."""
_LEGACY: Final = "Segmentation_Extent"
"""Key of the format before Slicer 4.11, whose layers are a fourth axis in space."""


@dataclass(frozen=True)
class Segment:
    """A segment as the header describes it."""

    name: str
    value: int
    """Value of its voxels in its layer."""
    layer: int
    terminology: str = ""
    """Meaning by the coded terms that the user chose, such as `Mass Kidney Left`; empty without them."""

    def stated_name(self, labels: LabelSet) -> str:
        """Return the name that the user gave it, or else the coded terms where these mean a label."""
        is_coded = _UNNAMED.fullmatch(self.name) and class_of_segment_name(self.terminology, labels) is not None
        return self.terminology if is_coded else self.name


def has_segments(path: Path) -> bool:
    """Whether a file is a segmentation that names its segments, and not a plain image.

    False for a file that cannot be read, because reading it reports that.
    """
    try:
        return (
            path.name.lower().endswith(_ENDINGS) and path.is_file() and any(map(_ANY_KEY.fullmatch, nrrd_pairs(path)))
        )
    except (InputError, OSError):
        return False


def read_slicer_segmentation(path: Path, labels: LabelSet, label_map: Mapping[int, int]) -> Volume:
    """Return the labels of a segmentation on the grid of its file, uint8 (z, y, x).

    A segment's class is the one in `label_map`, otherwise the one that its name states. Where segments overlap, the
    more important label is kept (`LabelSet.by_rank`), such as the tumor before the kidney. The number of a segment in
    `label_map` is its value, or its place in the header, from 1, where two segments have the same value. A file of a
    single voxel is an empty segmentation.

    Raises:
        InputError: as `read_nrrd`; the file stores no label map, or a key twice; a segment is not in `label_map` and
            its name is not that of a label; or a value belongs to no segment.
    """
    pairs = nrrd_pairs(path)
    _check_format(path, pairs)
    segments = _segments(path, pairs)
    meaning = classes_of_segments(
        {number: segment.stated_name(labels) for number, segment in segments.items()}, path, labels, label_map
    )
    volume = read_nrrd_layers(path)
    if volume.array[..., 0].size == 1:
        return Volume(np.zeros(volume.grid.shape, np.uint8), volume.grid)
    _check_layers(path, segments, volume.array)
    ranks = np.zeros(volume.grid.shape, np.uint8)
    for number, segment in segments.items():
        rank = labels.to_ranks(np.array(meaning[number], np.uint8))
        is_segment = volume.array[..., segment.layer] == segment.value
        np.maximum(ranks, rank, out=ranks, where=is_segment)
    return Volume(labels.from_ranks(ranks), volume.grid)


def _check_format(path: Path, pairs: Mapping[str, str]) -> None:
    repeated = repeated_nrrd_keys(path)
    if repeated:
        raise InputError(f"{path}: damaged segmentation (its header states '{repeated[0]:.40}' twice); save it again")
    if _LEGACY in pairs:
        raise InputError(f"{path}: segmentation of a version of 3D Slicer before 4.11; open it and save it again")
    stored = next((pairs[key] for key in _REPRESENTATIONS if key in pairs), "Binary labelmap")
    if stored.lower() != "binary labelmap":
        raise InputError(f"{path}: stores segments as '{stored:.40}'; save them as a binary labelmap")


def _segments(path: Path, pairs: Mapping[str, str]) -> dict[int, Segment]:
    """Return the segments by the number that a label map gives them."""
    indices = sorted(int(match[1]) for match in map(_KEY.fullmatch, pairs) if match)
    segments = [_segment(path, pairs, index) for index in indices]
    places = [(segment.layer, segment.value) for segment in segments]
    if len(set(places)) < len(places) or any(segment.value == 0 for segment in segments):
        raise InputError(f"{path}: damaged segmentation (values of its segments: {_listed(places)}); save it again")
    values = [segment.value for segment in segments]
    numbers = values if len(set(values)) == len(values) else range(1, len(values) + 1)
    return dict(zip(numbers, segments, strict=True))


def _segment(path: Path, pairs: Mapping[str, str], index: int) -> Segment:
    prefix = f"Segment{index}_"
    name = pairs.get(f"{prefix}Name") or pairs[f"{prefix}ID"]
    try:
        # Slicer's own reader has these defaults: value 1, and a layer for each segment.
        value, layer = (int(pairs.get(f"{prefix}{key}", other)) for key, other in (("LabelValue", 1), ("Layer", index)))
    except ValueError as error:
        raise InputError(f"{path}: damaged segmentation (segment '{name:.40}': {error}); save it again") from error
    return Segment(name.strip(), value, layer, _terminology(pairs.get(f"{prefix}Tags", "")))


def _terminology(tags: str) -> str:
    """Return type, modifier, region and its modifier of a tag such as `TerminologyEntry:list~category~type~~…|`."""
    entry = next((tag for tag in tags.split("|") if tag.startswith(_TERMINOLOGY)), "")
    _, _, kind, modifier, _, region, side, *_ = [*entry.split("~"), *[""] * 7]
    # A coded term is `scheme^code^meaning`.
    return " ".join(meaning for term in (kind, modifier, region, side) if (meaning := term.rpartition("^")[2]))


def _check_layers(path: Path, segments: Mapping[int, Segment], array: NDArray[Any]) -> None:
    """Refuse voxels that belong to no segment, and segments without a layer."""
    num_layers = array.shape[-1]
    for layer in range(num_layers):
        values = [0, *(segment.value for segment in segments.values() if segment.layer == layer)]
        known = sum(np.count_nonzero(array[..., layer] == value) for value in values)
        if known < array[..., layer].size:
            others = np.setdiff1d(array[..., layer], values)
            raise InputError(
                f"{path}: value {others[0]:g} of layer {layer} belongs to no segment of its header; save it again"
            )
    for segment in segments.values():
        if not 0 <= segment.layer < num_layers:
            problem = f"segment '{segment.name:.40}' is in layer {segment.layer}, counted from 0, of {num_layers}"
            raise InputError(f"{path}: damaged segmentation ({problem}); save it again")


def _listed(places: list[tuple[int, int]]) -> str:
    return ", ".join(f"{value} in layer {layer}" for layer, value in places[:8])
