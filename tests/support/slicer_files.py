"""Segmentations as 3D Slicer writes them: NRRD with a pair of header lines for each property of a segment."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.volume import Grid


def write_seg_nrrd(path: Path, layers: Sequence[NDArray[np.uint8]], grid: Grid, pairs: Mapping[str, str | int]) -> Path:
    """Write layers of shape (z, y, x) with the given pairs; several layers get a `list` axis, which is the fastest."""
    is_layered = len(layers) > 1
    steps = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
    header = {
        "type": "unsigned char",
        "dimension": 3 + is_layered,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, [*([len(layers)] if is_layered else []), *grid.size_xyz])),
        "space directions": " ".join([*(["none"] if is_layered else []), *map(_vector, steps.T)]),
        "kinds": " ".join([*(["list"] if is_layered else []), *["domain"] * 3]),
        "encoding": "gzip",
        "space origin": _vector(grid.origin_xyz_mm),
    }
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in header.items())]
    lines += [f"{key}:={value}" for key, value in pairs.items()]
    pixels = np.stack(layers, axis=-1) if is_layered else layers[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*lines, "", ""]).encode() + gzip.compress(pixels.astype(np.uint8).tobytes()))
    return path


def write_cropped(path: Path, array: NDArray[np.uint8], grid: Grid, pairs: Mapping[str, str | int]) -> Path:
    """Write the extent of the labels alone, as 3D Slicer does."""
    box = [(index.min(), index.max() + 1) for index in array.nonzero()]
    part = array[tuple(slice(*ends) for ends in box)]
    steps = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
    origin = np.array(grid.origin_xyz_mm) + steps @ [low for low, _ in reversed(box)]
    x, y, z = origin.tolist()
    depth, height, width = part.shape
    own = Grid((width, height, depth), grid.spacing_xyz_mm, (x, y, z), grid.direction)
    return write_seg_nrrd(path, [part], own, pairs)


def segment_pairs(*segments: tuple[str, int, int]) -> dict[str, str | int]:
    """Return the pairs of segments, each given by its name, its value and its layer."""
    pairs: dict[str, str | int] = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for index, (name, value, layer) in enumerate(segments):
        pairs |= {
            f"Segment{index}_ID": f"Segment_{index + 1}",
            f"Segment{index}_Name": name,
            f"Segment{index}_LabelValue": value,
            f"Segment{index}_Layer": layer,
        }
    return pairs


def _vector(values: Sequence[float] | NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"
