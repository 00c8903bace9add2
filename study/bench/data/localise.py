"""How well kidneys are found: synthetic abdomens by atlases of others, and what shows no kidney."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Box, Side, split_sides
from renalnet.data.images.volume import Volume, use_threads
from renalnet.data.localise.atlas import Atlas, make_atlas
from renalnet.data.localise.localiser import LOW_CONFIDENCE, localise
from renalnet.data.phantom import paint_abdomen, paint_head
from renalnet.runtime.machine import num_cores
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row

HELD_SHARE: Final = 0.995
WRONG_SHARE: Final = 0.9
IN_PLANE_MM: Final = 110.0
IN_PLANE_ROOM_MM: Final = 20.0
Z_ROOM_MM: Final = 40.0
UNSEEN_SEED: Final = 2911
ATLAS_SEED: Final = 1
"""Of the patients that become atlases; `measure` refuses to be asked for these."""

Subject: TypeAlias = Literal["abdomen", "head", "empty"]


@dataclass(frozen=True)
class KidneyRow:
    """A kidney of a synthetic abdomen; lengths beyond a limit are negative within it."""

    case: int
    side: Side
    held_share: float
    """Of its voxels and its tumor's, within the box, 0-1."""
    beyond_in_plane_mm: float
    """Of the box, beyond 110 mm or the kidney's own extent and 20 mm."""
    beyond_z_mm: float
    """Of the box, beyond the kidney's own length and 40 mm."""
    confidence: float


@dataclass(frozen=True)
class ScanRow:
    """A scan of any subject."""

    subject: Subject
    case: int
    seconds: float
    """Processor time of finding both kidneys."""
    confidence: float
    """Of the surer kidney."""
    kidneys: tuple[KidneyRow, ...]


@dataclass(frozen=True)
class Figures:
    """All scans together."""

    num_kidneys: int
    share_held: float
    """Kidneys of which the box holds at least 99.5 %."""
    share_within_size: float
    """Kidneys whose box is no larger than allowed."""
    least_held: float
    """The smallest share of a kidney that its box holds."""
    num_doubtful: int
    """Kidneys flagged, rightly or not."""
    num_wrong_unflagged: int
    """Boxes that hold less than 90 % of their kidney and are not flagged."""
    others_flagged: float
    """Share of the scans without a kidney that are flagged."""
    seconds: float
    """Processor time of the slowest scan, on one thread."""


def rows(size: Size, _: Path) -> Iterator[Row]:
    """The figures of unseen abdomens, heads and an empty volume; nothing is written."""
    figures = summarise(measure(size.abdomens, UNSEEN_SEED, num_cores()))
    note = f"{figures.num_kidneys} kidneys of {size.abdomens} synthetic abdomens, atlases of others"
    for what, unit, value in (
        (f"kidneys of which the box holds {HELD_SHARE:.1%}", "share", figures.share_held),
        ("boxes no larger than allowed", "share", figures.share_within_size),
        ("least of a kidney that its box holds", "share", figures.least_held),
        ("kidneys flagged as doubtful", "kidneys", figures.num_doubtful),
        (f"boxes that hold less than {WRONG_SHARE:.0%} and are not flagged", "boxes", figures.num_wrong_unflagged),
        ("heads and empty volumes that are flagged", "share", figures.others_flagged),
        ("processor time of the slowest scan", "s", figures.seconds),
    ):
        yield Row("localise", what, unit, float(value), note=note)


def measure(num_cases: int, seed: int, workers: int, num_others: int = 4) -> list[ScanRow]:
    """Localise `num_cases` abdomens, as many heads as `num_others`, and one empty volume.

    Raises:
        ValueError: the seed is that of the atlases.
    """
    if seed == ATLAS_SEED:
        raise ValueError(f"seed {seed} is that of the atlases; choose another")
    prepare = PrepareConfig()
    jobs: list[tuple[Subject, int]] = [("abdomen", index) for index in range(num_cases)]
    jobs += [("head", index) for index in range(num_others)] + [("empty", 0)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=use_threads, initargs=(1,)) as pool:
        atlases = list(pool.map(partial(paint_atlas, prepare), range(prepare.num_atlases)))
        return list(pool.map(partial(measure_scan, seed, atlases, prepare), jobs))


def paint_atlas(prepare: PrepareConfig, index: int) -> Atlas:
    """An atlas of a phantom."""
    painted = paint_abdomen(PhantomConfig(seed=ATLAS_SEED), index)
    return make_atlas(f"phantom-{index}", painted.image, painted.label, prepare, synthetic=True)


def measure_scan(seed: int, atlases: list[Atlas], prepare: PrepareConfig, job: tuple[Subject, int]) -> ScanRow:
    """Paint a scan and localise it."""
    subject, index = job
    image, label = _PAINTERS[subject](PhantomConfig(seed=seed), index)
    start = time.process_time()
    found = localise(image, atlases, prepare)
    seconds = time.process_time() - start
    sides = split_sides(label, image)
    boxes = [(side, Box.around(sides == SIDE_VALUES[side], label.grid)) for side in SIDES]
    kidneys = tuple(
        _measure_kidney(index, side, own, found.box(side), found.confidence_of(side), Volume(sides, label.grid))
        for side, own in boxes
        if own
    )
    return ScanRow(subject, index, seconds, found.confidence, kidneys)


def summarise(rows: list[ScanRow]) -> Figures:
    """The figures of all scans; at least one is an abdomen and one is not."""
    kidneys = [kidney for row in rows for kidney in row.kidneys]
    within = [max(kidney.beyond_in_plane_mm, kidney.beyond_z_mm) <= 0 for kidney in kidneys]
    sure = [kidney for kidney in kidneys if kidney.confidence >= LOW_CONFIDENCE]
    return Figures(
        num_kidneys=len(kidneys),
        share_held=float(np.mean([kidney.held_share >= HELD_SHARE for kidney in kidneys])),
        share_within_size=float(np.mean(within)),
        least_held=float(min(kidney.held_share for kidney in kidneys)),
        num_doubtful=len(kidneys) - len(sure),
        num_wrong_unflagged=int(sum(kidney.held_share < WRONG_SHARE for kidney in sure)),
        others_flagged=float(np.mean([row.confidence < LOW_CONFIDENCE for row in rows if not row.kidneys])),
        seconds=max(row.seconds for row in rows),
    )


def _measure_kidney(case: int, side: Side, own: Box, box: Box | None, confidence: float, sides: Volume) -> KidneyRow:
    if box is None:
        return KidneyRow(case, side, 0.0, 0.0, 0.0, confidence)
    limit = np.maximum(IN_PLANE_MM, np.add(own.size_mm, IN_PLANE_ROOM_MM)[1:])
    beyond = float(np.subtract(box.size_mm[1:], limit).max())
    held = box.share_of(sides.array == SIDE_VALUES[side], sides.grid)
    return KidneyRow(case, side, held, beyond, box.size_mm[0] - own.size_mm[0] - Z_ROOM_MM, confidence)


def _abdomen(config: PhantomConfig, index: int) -> tuple[Volume, Volume]:
    painted = paint_abdomen(config, index)
    return painted.image, painted.label


def _head(config: PhantomConfig, index: int) -> tuple[Volume, Volume]:
    image = paint_head(config, index)
    return image, _nothing(image)


def _empty(config: PhantomConfig, index: int) -> tuple[Volume, Volume]:
    grid = paint_head(config, index).grid
    image = Volume(np.full(config.shape, -1000, np.int16), grid)
    return image, _nothing(image)


def _nothing(image: Volume) -> Volume:
    return Volume(np.zeros(image.array.shape, np.uint8), image.grid)


_PAINTERS: Final[dict[Subject, Callable[[PhantomConfig, int], tuple[Volume, Volume]]]] = {
    "abdomen": _abdomen,
    "head": _head,
    "empty": _empty,
}
