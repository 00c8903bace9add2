"""Files that contain a mask of kidney and tumor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from renalnet.config import LabelSet
from renalnet.data.images.label_values import to_classes, value_rule
from renalnet.data.images.slicer_segmentation import has_segments, read_slicer_segmentation
from renalnet.data.images.volume import IMAGE_ENDINGS, Volume, canonical, image_stem, read_volume
from renalnet.errors import InputError

KITS_LABELS: Final = ("segmentation", "aggregated_MAJ_seg")
"""File names of label maps in KiTS19/KiTS23 and in KiTS21 (majority vote of its annotators)."""


def find_masks(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names without ending.

    In the layout of KiTS, a case is a folder with a file `segmentation`, and the mask has the name of that folder.

    Raises:
        InputError: the folder does not exist or contains no image file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder of masks")
    paths = sorted(folder.iterdir())
    inner = {each.name: path for each in paths if each.is_dir() for path in _kits_masks(each)}
    found = inner | {stem: path for path in paths if path.is_file() and (stem := image_stem(path.name))}
    if not found:
        raise InputError(f"{folder}: holds no masks; name a folder with files of type {', '.join(IMAGE_ENDINGS)}")
    return found


def _kits_masks(case: Path) -> list[Path]:
    return [path for path in sorted(case.iterdir()) if image_stem(path.name) in KITS_LABELS]


def read_mask(path: Path, labels: LabelSet) -> Volume:
    """Return a mask in canonical geometry, uint8 (z, y, x), with the values of `labels`.

    Raises:
        InputError: as `read_source_mask`.
    """
    return canonical(read_source_mask(path, labels), is_label=True)


def read_source_mask(path: Path, labels: LabelSet) -> Volume:
    """Return a mask on the grid of its file, uint8 (z, y, x), with the values of `labels`.

    The names of the segments decide in a segmentation of 3D Slicer, and the values in any other file.

    Raises:
        InputError: the file cannot be read, or contains a value or a segment that is not in `labels`.
    """
    if has_segments(path):
        return read_slicer_segmentation(path, labels, {})
    volume = read_volume(path)
    values = np.unique(volume.array)
    foreign = sorted(set(values.tolist()) - set(range(labels.num_classes)))
    if foreign:
        raise InputError(f"{path}: label {foreign[0]:g} must be {value_rule(labels)}; relabel the file")
    return Volume(volume.array.astype(np.uint8), volume.grid)


def read_label_file(path: Path, labels: LabelSet, label_map: Mapping[int, int]) -> Volume:
    """Return the label map of an image file on the grid of the file, uint8 (z, y, x), with the values of `labels`.

    Args:
        path: the file. The names of the segments decide in a segmentation of 3D Slicer, and the values in any other.
        labels: the label set.
        label_map: classes of further values or segments. It takes precedence over the label set.

    Raises:
        InputError: the file cannot be read, or a value or segment is neither in the label map nor in the label set.
    """
    if has_segments(path):
        return read_slicer_segmentation(path, labels, label_map)
    volume = read_volume(path)
    return Volume(to_classes(volume.array, path, labels, label_map), volume.grid)
