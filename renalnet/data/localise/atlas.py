"""Atlases: low-resolution CTs with labelled kidneys, which localise the kidneys of other scans (paper, II.A).

The paper uses eight atlases and states neither their choice nor their spacing. Both are reconstruction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from renalnet.config import PrepareConfig
from renalnet.data.cases.plausible_volumes import PLAUSIBLE_KIDNEY_ML
from renalnet.data.cases.sides import SIDE_VALUES, SIDES, body_width_mm, split_sides
from renalnet.data.images.resampling import covering_grid, regrid_image, regrid_label
from renalnet.data.images.volume import Grid, Volume
from renalnet.errors import InputError
from renalnet.json_text import parse_json
from renalnet.runtime import storage
from renalnet.runtime.safetensors_header import metadata_of

ATLAS_FILE: Final = "atlas.safetensors"
"""Name of the file in a store and in a model bundle."""
_METADATA_KEY: Final = "atlases"
_TWO_KIDNEYS: Final = 2


@dataclass(frozen=True)
class Atlas:
    """A low-resolution CT with labelled kidneys."""

    name: str
    """Name of its case. A scan is never compared with its own atlas."""
    image: Volume
    """int16 HU (z, y, x), canonical, isotropic."""
    sides: Volume
    """uint8 on the image's grid: 0 none, 1 left, 2 right kidney, tumor included."""
    synthetic: bool
    """Whether the atlas is a phantom and not a patient."""


@dataclass(frozen=True)
class AtlasCandidate:
    """The properties of a case that decide whether it becomes an atlas."""

    name: str
    body_width_mm: float
    """Left-right width of the body, in which patients differ most."""
    num_kidneys: int
    """Number of labelled kidneys of plausible volume that are completely within the scan."""


def describe_candidate(name: str, image: Volume, label: Volume) -> AtlasCandidate:
    """Return the properties of a canonical scan and its label map that decide whether it becomes an atlas.

    An empty label map has no kidneys, and a component that is smaller than any kidney does not count.
    """
    sides = split_sides(label, image)
    min_voxels = PLAUSIBLE_KIDNEY_ML[0] / label.grid.voxel_ml
    masks = [sides == SIDE_VALUES[side] for side in SIDES]
    # A kidney with voxels in the first or the last slice continues beyond the scan.
    whole = [np.count_nonzero(mask) >= min_voxels and not mask[[0, -1]].any() for mask in masks]
    return AtlasCandidate(name, body_width_mm(image), sum(map(bool, whole)))


def choose_atlases(candidates: Sequence[AtlasCandidate], count: int, seed: int) -> list[str]:
    """Return the sorted names of at most `count` cases that become atlases.

    Cases with two whole kidneys are preferred. They are divided into `count` groups of equal size by the width of the
    body, and one case is drawn from each group. Every patient is then similar to some atlas. If there are too few of
    them, cases with one whole kidney are drawn in addition. The order of the candidates has no influence.
    """
    drawn = np.random.default_rng(seed)
    # The name breaks ties, so that the result does not depend on the order of the candidates.
    ordered = sorted(candidates, key=lambda candidate: (candidate.body_width_mm, candidate.name))
    both = [candidate.name for candidate in ordered if candidate.num_kidneys == _TWO_KIDNEYS]
    if len(both) > count:
        groups = np.array_split(np.arange(len(both)), count)
        return sorted(both[int(drawn.choice(group))] for group in groups)
    single = [candidate.name for candidate in ordered if candidate.num_kidneys == 1]
    filling = drawn.permutation(len(single))[: count - len(both)]
    return sorted([*both, *(single[index] for index in filling)])


def make_atlas(name: str, image: Volume, label: Volume, config: PrepareConfig, *, synthetic: bool) -> Atlas:
    """Make an atlas from a canonical scan and its label map.

    Raises:
        InputError: the label map is empty, or too small to remain at the atlases' spacing.
    """
    if not label.array.any():
        raise InputError(f"atlas '{name}': its label map is empty; choose a case with kidneys")
    grid = covering_grid(image.grid, (config.atlas_spacing_mm,) * 3)
    sides = regrid_label(Volume(split_sides(label, image), label.grid), grid)
    if not sides.array.any():
        problem = f"its labels vanish at a spacing of {config.atlas_spacing_mm:g} mm"
        raise InputError(f"atlas '{name}': {problem}; choose a case with whole kidneys")
    return Atlas(name, regrid_image(image, grid, float(image.array.min())), sides, synthetic)


def atlases_to_bytes(atlases: Sequence[Atlas]) -> bytes:
    """Return the content of a safetensors file with the atlases. Its JSON metadata contain their names and grids."""
    about = [
        {"name": atlas.name, "synthetic": atlas.synthetic, "grid": atlas.image.grid.to_json()} for atlas in atlases
    ]
    tensors: dict[str, NDArray[Any]] = {}
    for number, atlas in enumerate(atlases):
        # safetensors silently mixes up the voxels of an array that is not contiguous.
        tensors[f"image_{number}"] = np.ascontiguousarray(atlas.image.array)
        tensors[f"sides_{number}"] = np.ascontiguousarray(atlas.sides.array)
    return bytes(save(tensors, metadata={_METADATA_KEY: json.dumps(about)}))


def load_atlases(path: str | Path) -> list[Atlas]:
    """Read a file that contains the bytes of `atlases_to_bytes`.

    Raises:
        InputError: the file is missing or is not a file of atlases.
    """
    try:
        content = storage.read_bytes(path)
        tensors = load(content)
        about = parse_json(metadata_of(content)[_METADATA_KEY])
        return [_loaded(tensors, number, entry) for number, entry in enumerate(about)]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file of atlases; prepare the store again") from error
    except (SafetensorError, AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of atlases ({error}); prepare the store again") from error


def _loaded(tensors: dict[str, NDArray[Any]], number: int, about: dict[str, Any]) -> Atlas:
    grid = Grid.from_json(about["grid"])
    image, sides = (Volume(tensors[f"{name}_{number}"], grid) for name in ("image", "sides"))
    return Atlas(about["name"], image, sides, about["synthetic"])
