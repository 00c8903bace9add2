"""Atlases: low-resolution CTs with labelled kidneys, by which the kidneys of other scans are found (paper, II.A).

The paper has eight of them and does not say which, nor how coarse: the choice and the spacing are reconstruction.
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
from renalnet.data.cases.sides import PLAUSIBLE_KIDNEY_ML, SIDE_VALUES, SIDES, body_width_mm, split_sides
from renalnet.data.images.resampling import covering_grid, regrid_image, regrid_label
from renalnet.data.images.volume import Grid, Volume
from renalnet.errors import InputError
from renalnet.runtime import storage

ATLAS_FILE: Final = "atlas.safetensors"
"""Its name in a model bundle."""
_METADATA_KEY: Final = "atlases"
_TWO_KIDNEYS: Final = 2


@dataclass(frozen=True)
class Atlas:
    """A low-resolution CT with labelled kidneys."""

    name: str
    """The case it came from: a scan is never compared with its own atlas."""
    image: Volume
    """int16 HU, canonical, isotropic."""
    sides: Volume
    """uint8 on the image's grid: 0 none, 1 left, 2 right kidney, tumor included."""
    synthetic: bool
    """Whether it is a phantom rather than a patient."""


@dataclass(frozen=True)
class AtlasCandidate:
    """What decides whether a patient becomes an atlas."""

    name: str
    body_width_mm: float
    """From side to side; builds differ most in it."""
    num_kidneys: int
    """Labelled kidneys, none smaller than a kidney can be, that lie within the scan whole."""


def describe_candidate(name: str, image: Volume, label: Volume) -> AtlasCandidate:
    """A labelled canonical scan as a candidate. An empty label counts no kidney, nor does a speck."""
    sides, least = split_sides(label, image), PLAUSIBLE_KIDNEY_ML[0] / label.grid.voxel_ml
    masks = [sides == SIDE_VALUES[side] for side in SIDES]
    whole = [np.count_nonzero(mask) >= least and not mask[[0, -1]].any() for mask in masks]
    return AtlasCandidate(name, body_width_mm(image), sum(map(bool, whole)))


def choose_atlases(candidates: Sequence[AtlasCandidate], count: int, seed: int) -> list[str]:
    """The names of the patients to make atlases of, sorted; all with a kidney where there are no more than `count`.

    Patients who show both kidneys whole come first. Of these, one is drawn from each of `count` groups of equally
    many, from slender to broad, so that every build has an atlas near it. The order of the candidates does not matter.
    """
    drawn = np.random.default_rng(seed)
    ordered = sorted(candidates, key=lambda candidate: (candidate.body_width_mm, candidate.name))
    both = [candidate.name for candidate in ordered if candidate.num_kidneys == _TWO_KIDNEYS]
    if len(both) > count:
        groups = np.array_split(np.arange(len(both)), count)
        return sorted(both[int(drawn.choice(group))] for group in groups)
    single = [candidate.name for candidate in ordered if candidate.num_kidneys == 1]
    filling = drawn.permutation(len(single))[: count - len(both)]
    return sorted([*both, *(single[index] for index in filling)])


def make_atlas(name: str, image: Volume, label: Volume, config: PrepareConfig, *, synthetic: bool) -> Atlas:
    """Shrink a labelled canonical scan to an atlas.

    Raises:
        InputError: the label is empty, or too small to show at the atlases' spacing.
    """
    if not label.array.any():
        raise InputError(f"atlas '{name}': its label is empty; choose a case with kidneys")
    grid = covering_grid(image.grid, (config.atlas_spacing_mm,) * 3)
    sides = regrid_label(Volume(split_sides(label, image), label.grid), grid)
    if not sides.array.any():
        rule = f"nothing is left of its label at {config.atlas_spacing_mm:g} mm"
        raise InputError(f"atlas '{name}': {rule}; choose a case with whole kidneys")
    return Atlas(name, regrid_image(image, grid, float(image.array.min())), sides, synthetic)


def atlases_to_bytes(atlases: Sequence[Atlas]) -> bytes:
    """A safetensors file of atlases, their names and grids in its JSON metadata."""
    about = [
        {"name": atlas.name, "synthetic": atlas.synthetic, "grid": atlas.image.grid.to_json()} for atlas in atlases
    ]
    tensors: dict[str, NDArray[Any]] = {}
    for number, atlas in enumerate(atlases):
        tensors[f"image_{number}"] = np.ascontiguousarray(atlas.image.array)
        tensors[f"sides_{number}"] = np.ascontiguousarray(atlas.sides.array)
    return bytes(save(tensors, metadata={_METADATA_KEY: json.dumps(about)}))


def load_atlases(path: str | Path) -> list[Atlas]:
    """Read a file of `atlases_to_bytes`.

    Raises:
        InputError: the file is missing or is not such a file.
    """
    try:
        content = storage.read_bytes(path)
        tensors, about = load(content), json.loads(_metadata(content)[_METADATA_KEY])
        return [_loaded(tensors, number, entry) for number, entry in enumerate(about)]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no atlases here; prepare the store again") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of atlases ({error}); prepare the store again") from error


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: eight bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _loaded(tensors: dict[str, NDArray[Any]], number: int, about: dict[str, Any]) -> Atlas:
    grid = Grid.from_json(about["grid"])
    image, sides = (Volume(tensors[f"{name}_{number}"], grid) for name in ("image", "sides"))
    return Atlas(about["name"], image, sides, about["synthetic"])
