"""Files that contain a mask of kidney and tumor."""

from pathlib import Path

import numpy as np

from renalnet.config import LabelSet
from renalnet.data.images.label_values import value_rule
from renalnet.data.images.volume import IMAGE_ENDINGS, Volume, canonical, image_stem, read_volume
from renalnet.errors import InputError


def find_masks(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names without ending.

    Raises:
        InputError: the folder does not exist or contains no image file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder of masks")
    found = {stem: path for path in sorted(folder.iterdir()) if (stem := image_stem(path.name))}
    if not found:
        raise InputError(f"{folder}: holds no masks; name a folder with files of type {', '.join(IMAGE_ENDINGS)}")
    return found


def read_mask(path: Path, labels: LabelSet) -> Volume:
    """Return a mask in canonical geometry, uint8 (z, y, x), with the values of `labels`.

    Raises:
        InputError: as `read_source_mask`.
    """
    return canonical(read_source_mask(path, labels), is_label=True)


def read_source_mask(path: Path, labels: LabelSet) -> Volume:
    """Return a mask on the grid of its file, uint8 (z, y, x), with the values of `labels`.

    Raises:
        InputError: the file cannot be read, or contains a value that is not 0 and not in `labels`.
    """
    volume = read_volume(path)
    values = np.unique(volume.array)
    foreign = sorted(set(values.tolist()) - set(range(labels.num_classes)))
    if foreign:
        raise InputError(f"{path}: label {foreign[0]:g} must be {value_rule(labels)}; relabel the file")
    return Volume(volume.array.astype(np.uint8), volume.grid)
