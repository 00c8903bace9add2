"""Masks of kidney and tumor as files."""

from pathlib import Path

import numpy as np

from renalnet.data.images.volume import IMAGE_ENDINGS, Volume, canonical, image_stem, read_volume
from renalnet.errors import InputError
from renalnet.types import LABEL_NAMES


def find_masks(folder: Path) -> dict[str, Path]:
    """The masks of a folder by their stems. Raises InputError where there is no folder, or none in it."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder of masks")
    found = {stem: path for path in sorted(folder.iterdir()) if (stem := image_stem(path.name))}
    if not found:
        raise InputError(f"{folder}: holds no masks ({', '.join(IMAGE_ENDINGS)})")
    return found


def read_mask(path: Path) -> Volume:
    """A mask in the inner geometry. Raises InputError as `read_source_mask` does."""
    return canonical(read_source_mask(path), is_label=True)


def read_source_mask(path: Path) -> Volume:
    """A mask on the grid of its file. Raises InputError where it cannot be read, or holds other labels than ours."""
    volume = read_volume(path)
    values = np.unique(volume.array)
    foreign = sorted(set(values.tolist()) - set(LABEL_NAMES))
    if foreign:
        raise InputError(f"{path}: holds label {foreign[0]:g}; labels are 0 background, 1 kidney, 2 tumor")
    return Volume(volume.array.astype(np.uint8), volume.grid)
