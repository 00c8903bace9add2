"""Painted patients: a whole synthetic abdomen, or a CT on given label maps of real kidneys."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from renalnet.config import PhantomConfig
from renalnet.data.cases.sides import Side
from renalnet.data.images.volume import Grid, Volume, canonical, grid_difference, resample
from renalnet.data.phantom import tissue
from renalnet.data.phantom.body import depth_below_skin, draw_habitus, paint_body
from renalnet.data.phantom.coordinates import BodyCoordinates
from renalnet.data.phantom.kidney import KIDNEY_SITE_MM, add_kidney, draw_kidney, draw_kidney_volume_ml
from renalnet.data.phantom.kidney_painting import paint_kidneys
from renalnet.data.phantom.scanner import scan
from renalnet.data.phantom.tumor import TumorKind, draw_volume_ml
from renalnet.errors import ConfigError, InputError
from renalnet.types import KIDNEY, TUMOR, FloatArray, LabelArray, MaskArray

MIN_FIELD_MM = (200.0, 220.0, 280.0)
"""A smaller field of view (z, y, x) would cut the kidneys of some patients."""


@dataclass(frozen=True)
class TumorTruth:
    """One painted tumor."""

    kind: TumorKind
    volume_ml: float
    exophytic_share: float | None
    """Share of it outside the kidney's natural outline; none where the label map was given."""


@dataclass(frozen=True)
class CaseTruth:
    """What was painted."""

    side: Side
    """The lesioned kidney's side (on given label maps: the side that the painted anatomy assumes)."""
    kidney_ml: float
    """All kidney voxels (label 1)."""
    tumor_ml: float
    tumors: tuple[TumorTruth, ...]

    @property
    def healthy(self) -> bool:
        """Whether no kidney carries a tumor."""
        return not self.tumors


@dataclass(frozen=True)
class PaintedCase:
    """A CT (int16 HU) and its labels (uint8) on one grid, with the truth behind them."""

    image: Volume
    label: Volume
    truth: CaseTruth


def paint_abdomen(config: PhantomConfig, index: int) -> PaintedCase:
    """A whole contrast CT of patient `index`; the same voxels for the same configuration and index.

    Label 1 is the parenchyma of both kidneys (sinus fat is background, as in KiTS), label 2 the tumor.

    Raises:
        ConfigError: the field of view is too small for the kidneys, or the tumor volumes are no range.
    """
    _check(config)
    rng = np.random.default_rng([config.seed, index, 1])
    origin = tuple(-(size - 1) / 2 * step for size, step in zip(config.shape, config.spacing_mm, strict=True))
    grid = Grid.axis_aligned(config.shape, config.spacing_mm, (origin[0], origin[1], origin[2]))
    space = BodyCoordinates.draw(rng, config.shape, config.spacing_mm, grid.origin_mm)
    habitus = draw_habitus(rng)
    depth = depth_below_skin(space, habitus)
    forbidden = (depth < habitus.skin_fat + 0.7 * habitus.wall) | (np.abs(space.x) < 30)
    side: Side = "left" if rng.random() < 0.5 else "right"
    label, exophytic = _draw_labels(config, index, space, forbidden, side, rng)
    enhancement = tissue.draw_enhancement(rng)
    canvas = paint_body(space, depth, habitus, enhancement, rng)
    tumors = paint_kidneys(canvas, label, habitus.perirenal_fat, enhancement, _quantile(config, index, "kind"), rng)
    truths = tuple(TumorTruth(kind, volume_ml, exophytic) for kind, volume_ml in tumors)
    image = Volume(scan(canvas.hu, config.spacing_mm, config, rng), grid)
    return PaintedCase(image, Volume(label, grid), _truth(side, label, grid, truths))


def paint_labels(labels: Volume, config: PhantomConfig, index: int) -> PaintedCase:
    """A CT painted on a label map of real kidneys: the map's grid, its labels unchanged.

    Of all indices, the share `config.healthy_share` has its tumor painted as healthy kidney and relabelled 1.

    Raises:
        InputError: the map has values other than 0, 1, 2, or no kidney.
    """
    _check_labels(labels)
    healthy = _quantile(config, index, "healthy") < config.healthy_share
    given = labels.array.astype(np.uint8)
    kept = np.minimum(given, KIDNEY).astype(np.uint8) if healthy else given
    upright = canonical(Volume(kept, labels.grid), is_label=True)
    rng = np.random.default_rng([config.seed, index, 2])
    image, side, tumors = _paint_around(upright, config, index, rng)
    if grid_difference(upright.grid, labels.grid):
        # Nearest neighbour, as the labels were turned: exact where axes are only permuted or flipped.
        image = resample(image, labels.grid, is_label=True, fill=tissue.AIR_HU)
    truths = tuple(TumorTruth(kind, volume_ml, None) for kind, volume_ml in tumors)
    return PaintedCase(image, Volume(kept, labels.grid), _truth(side, kept, labels.grid, truths))


def _check(config: PhantomConfig) -> None:
    field = [size * step for size, step in zip(config.shape, config.spacing_mm, strict=True)]
    if any(length < least for length, least in zip(field, MIN_FIELD_MM, strict=True)):
        words, least_words = ("×".join(f"{v:g}" for v in values) for values in (field, MIN_FIELD_MM))
        raise ConfigError(
            f"phantom field of view {words} mm (z, y, x) must be at least {least_words} mm; enlarge shape"
        )
    low, high = config.tumor_volume_ml
    if not 0 < low <= high:
        raise ConfigError(
            f"tumor_volume_ml = {config.tumor_volume_ml}: must be a range of positive volumes, low to high"
        )


def _check_labels(labels: Volume) -> None:
    values = np.unique(labels.array)
    odd = [value for value in values.tolist() if value not in (0, KIDNEY, TUMOR)]
    if odd:
        raise InputError(f"label value {odd[0]:g}: a label map holds 0 background, 1 kidney, 2 tumor only; relabel it")
    if not values.any():
        raise InputError("the label map holds no kidney; remove it from the folder")


def _quantile(config: PhantomConfig, index: int, what: Literal["healthy", "kind", "volume"]) -> float:
    """A number in [0, 1) that fills the interval evenly over consecutive patients, in small cohorts too."""
    irrational = {"healthy": math.sqrt(5) / 2, "kind": math.sqrt(2), "volume": math.sqrt(3)}
    start = np.random.default_rng([config.seed, 3 + list(irrational).index(what)]).random()
    return float((start + index * irrational[what]) % 1.0)


def _draw_labels(
    config: PhantomConfig,
    index: int,
    space: BodyCoordinates,
    forbidden: MaskArray,
    side: Side,
    rng: np.random.Generator,
) -> tuple[LabelArray, float]:
    label: LabelArray = np.zeros(space.shape, np.uint8)
    tumor_ml = draw_volume_ml(_quantile(config, index, "volume"), config.tumor_volume_ml)
    if _quantile(config, index, "healthy") < config.healthy_share:
        tumor_ml = 0.0
    volume_ml = draw_kidney_volume_ml(rng)
    other: Side = "right" if side == "left" else "left"
    exophytic = add_kidney(label, space, forbidden, draw_kidney(side, volume_ml, rng), tumor_ml, rng)
    other_ml = float(np.clip(volume_ml * rng.uniform(0.9, 1.1), 88, 257))
    add_kidney(label, space, forbidden, draw_kidney(other, other_ml, rng), 0.0, rng)
    return label, exophytic


def _paint_around(
    labels: Volume, config: PhantomConfig, index: int, rng: np.random.Generator
) -> tuple[Volume, Side, list[tuple[TumorKind, float]]]:
    """The image of an upright label map, placed where its kidney would lie in a body."""
    grid, label = labels.grid, labels.array
    side = _side(label)
    centroid = [
        float(np.average(np.arange(size), weights=_profile(label, axis))) for axis, size in enumerate(label.shape)
    ]
    first = [site - c * step for site, c, step in zip(KIDNEY_SITE_MM[side], centroid, grid.spacing_mm, strict=True)]
    space = BodyCoordinates.draw(rng, grid.shape, grid.spacing_mm, (first[0], first[1], first[2]))
    habitus, enhancement = draw_habitus(rng), tissue.draw_enhancement(rng)
    canvas = paint_body(space, depth_below_skin(space, habitus), habitus, enhancement, rng)
    tumors = paint_kidneys(canvas, label, habitus.perirenal_fat, enhancement, _quantile(config, index, "kind"), rng)
    return Volume(scan(canvas.hu, grid.spacing_mm, config, rng), grid), side, tumors


def _profile(label: LabelArray, axis: int) -> FloatArray:
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray((label > 0).sum(axis=others), dtype=np.float32)


def _side(label: LabelArray) -> Side:
    """The side whose spine the hollow of the kidney faces: its mass lies away from the hilum."""
    mask = label == KIDNEY
    columns = np.arange(mask.shape[2])
    counts = mask.sum(axis=1)
    rows = counts.sum(axis=1) > 0
    centre = (counts[rows] * columns).sum(axis=1) / counts[rows].sum(axis=1)
    filled = counts[rows] > 0
    middle = (filled.argmax(axis=1) + mask.shape[2] - 1 - filled[:, ::-1].argmax(axis=1)) / 2
    return "left" if float((centre - middle).sum()) >= 0 else "right"


def _truth(side: Side, label: LabelArray, grid: Grid, tumors: tuple[TumorTruth, ...]) -> CaseTruth:
    kidney_ml, tumor_ml = (float((label == value).sum()) * grid.voxel_ml for value in (KIDNEY, TUMOR))
    return CaseTruth(side, kidney_ml, tumor_ml, tumors)
