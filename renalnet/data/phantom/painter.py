"""Painting of one case: a whole synthetic abdomen, or a CT around a given label map of a real kidney."""

import math
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from renalnet.config import LabelSet, PhantomConfig
from renalnet.config.labels import KIDNEY, TUMOR
from renalnet.data.cases.sides import Side
from renalnet.data.images.label_values import set_with, value_rule
from renalnet.data.images.volume import Grid, Volume, canonical, grid_difference, resample
from renalnet.data.phantom.body import Canvas, depth_below_skin, draw_habitus, paint_body
from renalnet.data.phantom.coordinates import BodyCoordinates
from renalnet.data.phantom.findings import add_cysts, paint_cysts, paint_stent, paint_stones
from renalnet.data.phantom.imaging import tissue
from renalnet.data.phantom.imaging.scanner import narrow_acquisition, scan
from renalnet.data.phantom.imaging.tissue import TumorKind
from renalnet.data.phantom.imaging.tumor import draw_volume_ml
from renalnet.data.phantom.kidney import KIDNEY_SITE_MM, add_kidney, draw_kidney, draw_kidney_volume_ml
from renalnet.data.phantom.kidney_painting import paint_kidneys, paint_slack
from renalnet.data.phantom.other_lesions import add_other_lesions
from renalnet.data.phantom.surroundings import paint_inside, paint_outside
from renalnet.data.phantom.variety import Variety, variety_of
from renalnet.errors import ConfigError, InputError
from renalnet.runtime.machine import memory_bytes
from renalnet.types import FloatArray, LabelArray, MaskArray, Shape

_PAINTING_BYTES: Final = 46
"""Memory that painting takes at its peak, in bytes per voxel (measured at 4 million voxels)."""
MIN_FIELD_MM = (200.0, 220.0, 280.0)
"""Smallest field of view (z, y, x) that holds the kidneys of every case."""


@dataclass(frozen=True)
class TumorTruth:
    """Truth about one painted tumor."""

    kind: TumorKind
    volume_ml: float
    exophytic_share: float | None
    """Share of the tumor outside the kidney's natural outline; None where the label map was given."""


@dataclass(frozen=True)
class CaseTruth:
    """Truth about one painted case."""

    side: Side
    """Side of the lesioned kidney; around a given label map, the side that the painted anatomy assumes."""
    kidney_ml: float
    """Volume of all kidney voxels."""
    tumor_ml: float
    """Volume of all tumor voxels."""
    tumors: tuple[TumorTruth, ...]
    """Tumors, the largest first."""
    other_ml: dict[str, float] = field(default_factory=dict)
    """Volume of each other label, by its name."""

    @property
    def healthy(self) -> bool:
        """Whether no kidney has a tumor."""
        return not self.tumors


@dataclass(frozen=True)
class PaintedCase:
    """A CT (int16 HU) and its label map (uint8) on one grid, with the truth about them."""

    image: Volume
    label: Volume
    truth: CaseTruth


def paint_abdomen(config: PhantomConfig, index: int) -> PaintedCase:
    """Return a whole contrast CT of case `index`; a function of the configuration and the index alone.

    The label kidney is the parenchyma of both kidneys (sinus fat is background, as in KiTS).

    Raises:
        ConfigError: the field of view is too small for the kidneys, or `tumor_volume_ml` is not a range.
    """
    _check(config)
    rng = np.random.default_rng([config.seed, index, 1])
    origin = tuple(-(size - 1) / 2 * spacing for size, spacing in zip(config.shape, config.spacing_mm, strict=True))
    grid = Grid.axis_aligned(config.shape, config.spacing_mm, (origin[0], origin[1], origin[2]))
    variety = variety_of(config, index)
    space = BodyCoordinates.draw(rng, config.shape, config.spacing_mm, grid.origin_mm, variety.size)
    habitus = variety.habitus or draw_habitus(rng)
    depth = depth_below_skin(space, habitus)
    # Kidneys and tumors may indent the abdominal wall, and stay off the spine.
    forbidden = (depth < habitus.skin_fat + 0.7 * habitus.wall) | (np.abs(space.x) < 30)
    side: Side = "left" if rng.random() < 0.5 else "right"
    label, exophytic = _draw_labels(config, index, space, forbidden, side, rng, variety)
    enhancement = variety.enhancement or tissue.draw_enhancement(rng)
    canvas = paint_body(space, depth, habitus, enhancement, rng)
    findings = _Findings(config, index, variety)
    findings.paint_around(canvas, depth)
    cysts = findings.add_cysts(label, space, forbidden)
    tumors = paint_kidneys(canvas, label, config.labels, _quantile(config, index, "kind"), rng)
    findings.paint_kidneys(canvas, label, cysts)
    truths = tuple(TumorTruth(kind, volume_ml, exophytic) for kind, volume_ml in tumors)
    acquisition = variety.acquisition or narrow_acquisition(config)
    image = Volume(scan(canvas.hu, config.spacing_mm, acquisition, rng), grid)
    return PaintedCase(image, Volume(label, grid), _truth(side, label, grid, truths, config.labels))


def paint_labels(labels: Volume, config: PhantomConfig, index: int) -> PaintedCase:
    """Return a CT painted around a label map of real kidneys, on the map's grid and with its labels unchanged.

    For a share `config.healthy_share` of the indices, the tumor is painted and labelled as healthy kidney.

    Raises:
        InputError: the label map has values that are not in the label set, or no kidney.
    """
    _check_labels(labels, config.labels)
    healthy = _quantile(config, index, "healthy") < config.healthy_share
    given = labels.array.astype(np.uint8)
    kept = np.where(given == config.labels.tumor.value, config.labels.kidney.value, given) if healthy else given
    kept = kept.astype(np.uint8)
    upright = canonical(Volume(kept, labels.grid), is_label=True)
    rng = np.random.default_rng([config.seed, index, 2])
    image, side, tumors = _paint_around(upright, config, index, rng)
    if grid_difference(upright.grid, labels.grid):
        # Nearest neighbour, as for the labels: exact where axes are only permuted or flipped.
        image = resample(image, labels.grid, is_label=True, fill=tissue.AIR_HU)
    truths = tuple(TumorTruth(kind, volume_ml, None) for kind, volume_ml in tumors)
    return PaintedCase(image, Volume(kept, labels.grid), _truth(side, kept, labels.grid, truths, config.labels))


def _check(config: PhantomConfig) -> None:
    field = [size * spacing for size, spacing in zip(config.shape, config.spacing_mm, strict=True)]
    if any(length < least for length, least in zip(field, MIN_FIELD_MM, strict=True)):
        found, least = ("×".join(f"{v:g}" for v in values) for values in (field, MIN_FIELD_MM))
        raise ConfigError(f"phantom field of view {found} mm (z, y, x) must be at least {least} mm; enlarge shape")
    _check_memory(config.shape)
    low, high = config.tumor_volume_ml
    if not 0 < low <= high:
        raise ConfigError(
            f"tumor_volume_ml = {config.tumor_volume_ml} must be a range of positive volumes; give the lower one first"
        )


def _check_memory(shape: Shape) -> None:
    needed_gb = math.prod(shape) * _PAINTING_BYTES / 2**30
    limit_gb = memory_bytes() / 2**30
    if needed_gb > limit_gb:
        size = "×".join(map(str, shape))
        raise ConfigError(
            f"a phantom of {size} voxels (z, y, x) needs about {needed_gb:.1f} GiB of memory, more than the "
            f"{limit_gb:.1f} GiB of this process; lower shape, or use a node with more memory"
        )


def _check_labels(labels: Volume, label_set: LabelSet) -> None:
    values = np.unique(labels.array).tolist()
    odd = [value for value in values if value not in range(label_set.num_classes)]
    if odd:
        raise InputError(
            f"label value {odd[0]:g} must be {value_rule(label_set)}; relabel the map{set_with(odd, label_set)}"
        )
    if not label_set.body_mask(labels.array).any():
        raise InputError("the label map holds no kidney; remove it from the folder")


def _quantile(config: PhantomConfig, index: int, what: Literal["healthy", "kind", "volume"]) -> float:
    """Return a number in [0, 1) for a case; numbers of consecutive cases fill the interval evenly."""
    # Multiples of an irrational number modulo 1 are evenly spread even in small cohorts, unlike independent draws.
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
    variety: Variety,
) -> tuple[LabelArray, float]:
    label: LabelArray = np.zeros(space.shape, np.uint8)
    tumor_ml = draw_volume_ml(_quantile(config, index, "volume"), config.tumor_volume_ml)
    if _quantile(config, index, "healthy") < config.healthy_share:
        tumor_ml = 0.0
    volume_ml = draw_kidney_volume_ml(rng) * variety.kidney_volume
    other: Side = "right" if side == "left" else "left"
    shape = draw_kidney(side, volume_ml, rng, variety.kidney_spread)
    exophytic = add_kidney(label, space, forbidden, shape, tumor_ml, rng, config.labels)
    # The bounds are 3 ml inside those of the paper, as in `draw_kidney_volume_ml`.
    other_ml = float(
        np.clip(volume_ml * rng.uniform(0.9, 1.1), 88 * variety.kidney_volume, 257 * variety.kidney_volume)
    )
    shape = draw_kidney(other, other_ml, rng, variety.kidney_spread)
    if not variety.has_one_kidney:
        add_kidney(label, space, forbidden, shape, 0.0, rng, config.labels)
    add_other_lesions(label, space, forbidden, config, index)
    return label, exophytic


def _paint_around(
    labels: Volume, config: PhantomConfig, index: int, rng: np.random.Generator
) -> tuple[Volume, Side, list[tuple[TumorKind, float]]]:
    """Paint the body around an upright label map, whose kidney is placed where it would be in a body."""
    grid = labels.grid
    label = labels.array
    side = _side(label == config.labels.kidney.value)
    body = config.labels.body_mask(label)
    centroid = [
        float(np.average(np.arange(size), weights=_profile(body, axis))) for axis, size in enumerate(label.shape)
    ]
    first = [
        site - c * spacing for site, c, spacing in zip(KIDNEY_SITE_MM[side], centroid, grid.spacing_mm, strict=True)
    ]
    variety = variety_of(config, index)
    space = BodyCoordinates.draw(rng, grid.shape, grid.spacing_mm, (first[0], first[1], first[2]))
    habitus = variety.habitus or draw_habitus(rng)
    enhancement = variety.enhancement or tissue.draw_enhancement(rng)
    depth = depth_below_skin(space, habitus)
    canvas = paint_body(space, depth, habitus, enhancement, rng)
    findings = _Findings(config, index, variety)
    findings.paint_around(canvas, depth)
    # The label map is given, so cysts may not enlarge the kidney.
    cysts = findings.add_cysts(label.copy(), space, np.ones(label.shape, bool))
    tumors = paint_kidneys(canvas, label, config.labels, _quantile(config, index, "kind"), rng)
    findings.paint_kidneys(canvas, label, cysts)
    acquisition = variety.acquisition or narrow_acquisition(config)
    return Volume(scan(canvas.hu, grid.spacing_mm, acquisition, rng), grid), side, tumors


class _Findings:
    """Findings and surroundings of a wide case; none of a narrow one."""

    def __init__(self, config: PhantomConfig, index: int, variety: Variety) -> None:
        self._variety = variety
        self._labels = config.labels
        # A generator of its own, so that findings do not change the anatomy.
        self._rng = np.random.default_rng([config.seed, index, 12])

    def paint_around(self, canvas: Canvas, depth_mm: FloatArray) -> None:
        """Paint what surrounds the abdomen."""
        if self._variety.is_wide:
            paint_inside(canvas, depth_mm, self._rng)
            paint_outside(canvas, depth_mm, has_arms=self._variety.has_arms, rng=self._rng)

    def add_cysts(self, label: LabelArray, space: BodyCoordinates, forbidden: MaskArray) -> MaskArray:
        """Add cysts to the label of the kidneys, and return their mask."""
        return add_cysts(label, space, forbidden, self._labels, self._variety.num_cysts, self._rng)

    def paint_kidneys(self, canvas: Canvas, label: LabelArray, cysts: MaskArray) -> None:
        """Paint cysts, stones and stents over the painted kidneys."""
        kidney = label == self._labels.kidney.value
        if self._variety.is_wide:
            paint_slack(canvas, self._labels.body_mask(label), self._rng)
        if cysts.any():
            paint_cysts(canvas, cysts, self._rng)
        if self._variety.has_stone and kidney.any():
            paint_stones(canvas, kidney, self._rng)
        if self._variety.has_stent:
            paint_stent(canvas, kidney, self._rng)


def _profile(mask: MaskArray, axis: int) -> FloatArray:
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(mask.sum(axis=others), dtype=np.float32)


def _side(mask: MaskArray) -> Side:
    """Return the side on which the kidney's hollow would face the spine: its mass is away from the hilum."""
    columns = np.arange(mask.shape[2])
    counts = mask.sum(axis=1)
    rows = counts.sum(axis=1) > 0
    # A hollow on one side moves the centroid of a row away from the middle of its outline.
    centre = (counts[rows] * columns).sum(axis=1) / counts[rows].sum(axis=1)
    filled = counts[rows] > 0
    middle = (filled.argmax(axis=1) + mask.shape[2] - 1 - filled[:, ::-1].argmax(axis=1)) / 2
    return "left" if float((centre - middle).sum()) >= 0 else "right"


def _truth(side: Side, values: LabelArray, grid: Grid, tumors: tuple[TumorTruth, ...], labels: LabelSet) -> CaseTruth:
    volume_ml = {label.name: float((values == label.value).sum()) * grid.voxel_ml for label in labels.labels}
    kidney_ml = volume_ml.pop(KIDNEY)
    tumor_ml = volume_ml.pop(TUMOR)
    return CaseTruth(side, kidney_ml, tumor_ml, tumors, volume_ml)
