"""Multi-atlas localisation of the kidneys (paper, II.A: eight low-resolution atlas images).

Each atlas is a small CT with its kidneys labelled. It is aligned with the scan (bodies first, then an affine
registration), its labels are carried over, and the atlases vote, weighted by how well they resemble the scan.
How the paper aligns and votes it does not say: all of that is reconstruction.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy import ndimage

from renalnet import storage
from renalnet.config import PrepareConfig
from renalnet.data.kidneys import SIDE_VALUES, SIDES, Box, Side, body_mask, split_sides
from renalnet.data.regrid import covering_grid, regrid_image, regrid_label
from renalnet.data.volume import Grid, Volume, to_itk
from renalnet.errors import InputError
from renalnet.types import FloatArray, MaskArray

HU_RANGE: Final = (-200.0, 300.0)
"""Intensities compared by the registration: fat to enhanced organs; neither air nor bone should rule."""
_ALIGN_PIXELS: Final = 24
_MIN_OVERLAP: Final = 0.5
_ITERATIONS: Final = 20
_SAMPLING: Final = 0.3
_SAMPLING_SEED: Final = 1
_WEIGHT_WIDTH: Final = 0.1
_POSSIBLE_SHARE: Final = 0.05
_METADATA_KEY: Final = "atlases"
ENHANCING_HU: Final = (110, 400)
"""Mean CT numbers of blocks of kidney; the paper's kidneys enhance to 100-500 HU."""
LOW_CONFIDENCE: Final = 0.4
"""Phantoms score 0.5 to 0.7, the same upside down or pure noise below 0.3."""


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
class Localisation:
    """Where the kidneys of a scan probably lie."""

    left: Box | None
    right: Box | None
    confidence: float
    """0-1, doubtful below `LOW_CONFIDENCE`: geometric mean of the Dice of the atlases' kidneys with their
    consensus and of the correlation of intensities around them."""

    def box(self, side: Side) -> Box | None:
        """The box of a side; none where no atlas has a kidney there."""
        return self.left if side == "left" else self.right


def make_atlas(name: str, image: Volume, label: Volume, config: PrepareConfig, *, synthetic: bool) -> Atlas:
    """Shrink a labelled canonical scan to an atlas.

    Raises:
        InputError: the label is empty.
    """
    if not label.array.any():
        raise InputError(f"atlas '{name}': its label is empty; choose a case with kidneys")
    grid = covering_grid(image.grid, (config.atlas_spacing_mm,) * 3)
    sides = Volume(split_sides(label, image), label.grid)
    return Atlas(name, regrid_image(image, grid, float(image.array.min())), regrid_label(sides, grid), synthetic)


def localise(
    image: Volume, atlases: Sequence[Atlas], config: PrepareConfig, *, exclude: str | None = None
) -> Localisation:
    """Find the kidneys of a canonical scan.

    Args:
        exclude: the name of the scan's own case; an atlas made of it does not take part.

    Raises:
        InputError: no atlas is left.
    """
    used = [atlas for atlas in atlases if atlas.name != exclude]
    if not used:
        raise InputError("no atlas to localise with; prepare with more training cases or use localise=cut")
    grid = covering_grid(image.grid, (config.atlas_spacing_mm,) * 3)
    scan = regrid_image(image, grid, float(image.array.min()))
    return _consensus(scan, [_propagate(scan, atlas) for atlas in used])


@dataclass(frozen=True)
class _Vote:
    """An atlas carried over to the scan."""

    shares: dict[Side, FloatArray]
    """Probability of each side's kidney, (z, y, x)."""
    similarity: float
    """Correlation of intensities around the kidneys, -1 to 1."""


def _consensus(scan: Volume, votes: Sequence[_Vote]) -> Localisation:
    similarity = np.array([vote.similarity for vote in votes])
    weights = np.exp((similarity - similarity.max()) / _WEIGHT_WIDTH)
    weights /= weights.sum()
    boxes: dict[Side, Box | None] = {}
    agreements = []
    for side in SIDES:
        shares = np.stack([vote.shares[side] for vote in votes])
        probability = np.tensordot(weights, shares, axes=1)
        core = (probability >= 0.5 * probability.max()) & (probability > 0)
        boxes[side] = Box.around(_follow_intensity(scan.array, probability, core), scan.grid)
        agreements.append(weights @ np.array([_dice(share >= 0.5, core) for share in shares]))
    likeness = max(float(weights @ similarity), 0.0)
    return Localisation(boxes["left"], boxes["right"], math.sqrt(float(np.mean(agreements)) * likeness))


def _follow_intensity(hu: NDArray[np.int16], probability: FloatArray, core: MaskArray) -> MaskArray:
    """The core of the vote, and what enhances like a kidney next to it where some atlas has a kidney.

    The vote alone is as large as an average kidney; this follows a large one to its poles.
    """
    possible = probability >= _POSSIBLE_SHARE * probability.max()
    enhancing = (hu > ENHANCING_HU[0]) & (hu < ENHANCING_HU[1])
    components, _ = ndimage.label(core | (possible & enhancing))
    return np.isin(components, np.unique(components[core])) & (components > 0)


def _dice(first: MaskArray, second: MaskArray) -> float:
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * np.count_nonzero(first & second) / total if total else 0.0


def _propagate(scan: Volume, atlas: Atlas) -> _Vote:
    """Register an atlas with the scan and carry its kidneys over."""
    import SimpleITK as sitk

    fixed, moving = to_itk(_comparable(scan)), to_itk(_comparable(atlas.image))
    transform = _register(fixed, moving, _body_alignment(scan, atlas.image))

    def carry(image: Any, outside: float) -> FloatArray:
        moved = sitk.Resample(image, fixed, transform, sitk.sitkLinear, outside)
        return np.asarray(sitk.GetArrayFromImage(moved), np.float32)

    shares = {side: carry(to_itk(_side_mask(atlas.sides, side)), 0.0) for side in SIDES}
    near = ndimage.binary_dilation(shares["left"] + shares["right"] > 0.2, iterations=2)
    warped = carry(moving, HU_RANGE[0])
    return _Vote(shares, _correlation(sitk.GetArrayViewFromImage(fixed)[near], warped[near]))


def _side_mask(sides: Volume, side: Side) -> Volume:
    return Volume((sides.array == SIDE_VALUES[side]).astype(np.float32), sides.grid)


def _comparable(image: Volume) -> Volume:
    return Volume(np.clip(image.array, *HU_RANGE).astype(np.float32), image.grid)


def _register(fixed: Any, moving: Any, start: Any) -> Any:
    """The affine transform from the scan to the atlas that correlates their intensities best."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in the order of the voxels: the same result on every machine
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(_SAMPLING, seed=_SAMPLING_SEED)  # else seeded by the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.1, numberOfIterations=_ITERATIONS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    # Coarse suffices: the vote averages what is left, and intensities have the last word. Finer levels and
    # smoothed gradients cost three times as much and found no more of the kidneys.
    method.SetShrinkFactorsPerLevel([2])
    method.SetSmoothingSigmasPerLevel([6])
    method.MetricUseMovingImageGradientFilterOff()
    method.MetricUseFixedImageGradientFilterOff()
    method.SetInitialTransform(start, inPlace=False)
    try:
        return method.Execute(fixed, moving)
    except RuntimeError:  # the images slid apart: the bodies' alignment is still a fair guess
        return start


def _body_alignment(scan: Volume, atlas: Volume) -> Any:
    """The affine transform that lays the bodies' cross-sections on each other and finds the shift along z."""
    import SimpleITK as sitk

    scan_box, atlas_box = _body_box(scan), _body_box(atlas)
    slices = _best_shift(_cross_sections(scan, scan_box), _cross_sections(atlas, atlas_box))
    shift_z = atlas.grid.origin_mm[0] - scan.grid.origin_mm[0] - slices * scan.grid.spacing_mm[0]
    _, *scales = np.divide(atlas_box.size_mm, scan_box.size_mm)
    _, *shifts = np.subtract(atlas_box.centre_mm, scan_box.centre_mm)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(scan_box.centre_mm[::-1])
    transform.SetMatrix(np.diag([scales[1], scales[0], 1.0]).ravel().tolist())
    transform.SetTranslation([float(shifts[1]), float(shifts[0]), float(shift_z)])
    return transform


def _body_box(image: Volume) -> Box:
    box = Box.around(body_mask(image), image.grid)
    assert box is not None  # a body mask is never empty
    return box


def _cross_sections(image: Volume, body: Box) -> FloatArray:
    """Each slice's body, sampled to the same few pixels: (z, 24, 24)."""
    lines = [
        np.rint(
            (np.linspace(body.low_mm[axis], body.high_mm[axis], _ALIGN_PIXELS + 2)[1:-1] - image.grid.origin_mm[axis])
            / image.grid.spacing_mm[axis]
        ).astype(int)
        for axis in (1, 2)
    ]
    sampled = np.clip(image.array[:, lines[0][:, None], lines[1]], *HU_RANGE)
    return np.asarray(sampled, np.float32)


def _best_shift(scan: FloatArray, atlas: FloatArray) -> int:
    """By how many slices the atlas must move up to resemble the scan most; at least half of one overlaps."""
    least = math.ceil(_MIN_OVERLAP * min(len(scan), len(atlas)))
    scores = {}
    for shift in range(least - len(atlas), len(scan) - least + 1):
        low, high = max(0, shift), min(len(scan), len(atlas) + shift)
        scores[shift] = _correlation(scan[low:high], atlas[low - shift : high - shift])
    return max(scores, key=lambda shift: scores[shift])


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Pearson's; 0 where one of them is constant or empty."""
    if not first.size:
        return 0.0
    one, two = first - first.mean(), second - second.mean()
    norm = math.sqrt(float((one * one).sum(dtype=np.float64) * (two * two).sum(dtype=np.float64)))
    return float((one * two).sum(dtype=np.float64)) / norm if norm else 0.0


def save_atlases(path: str | Path, atlases: Sequence[Atlas]) -> None:
    """Write atlases as safetensors, their names and grids as its JSON metadata."""
    about = [
        {"name": atlas.name, "synthetic": atlas.synthetic, "grid": atlas.image.grid.to_json()} for atlas in atlases
    ]
    tensors: dict[str, NDArray[Any]] = {}
    for number, atlas in enumerate(atlases):
        tensors[f"image_{number}"] = np.ascontiguousarray(atlas.image.array)
        tensors[f"sides_{number}"] = np.ascontiguousarray(atlas.sides.array)
    storage.write_bytes(path, save(tensors, metadata={_METADATA_KEY: json.dumps(about)}))


def load_atlases(path: str | Path) -> list[Atlas]:
    """Read what `save_atlases` wrote.

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
