"""Benchmark of the localiser on synthetic abdomens of both painters, on scans without kidneys, and on given scans.

The packaged network is compared with the atlases alone, which are made of other abdomens of the same painter.
"""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from renalnet.config import KIDNEY_TUMOR, PhantomConfig, PrepareConfig
from renalnet.data.cases.layouts import find_cases
from renalnet.data.cases.loading import load_case
from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Box, Side, split_sides
from renalnet.data.images.volume import Volume, use_threads
from renalnet.data.localise.atlas import Atlas, make_atlas
from renalnet.data.localise.localiser import LOW_CONFIDENCE
from renalnet.data.phantom import OtherPart, paint_abdomen, paint_other_part
from renalnet.localiser.finder import KidneyFinder
from renalnet.localiser.network import CoarseNetwork, load_network, packaged_network
from renalnet.runtime.machine import num_cores
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row

HELD_SHARE: Final = 0.995
"""Share of a kidney from which its box counts as holding it."""
WRONG_SHARE: Final = 0.9
"""Share of a kidney below which its box counts as wrong."""
IN_PLANE_MM: Final = 110.0
"""In-plane size that a box may always have."""
IN_PLANE_ROOM_MM: Final = 20.0
"""In-plane size that a box may have beyond the extent of its kidney."""
Z_ROOM_MM: Final = 40.0
"""Size along z that a box may have beyond the length of its kidney."""
# No threshold of the localiser was tuned on the scans of this seed.
UNSEEN_SEED: Final = 2911
ATLAS_SEED: Final = 1
"""Seed of the abdomens that become atlases, which `measure` refuses as its own."""

Painted: TypeAlias = Literal["abdomen", "head", "chest", "legs", "empty"]
Subject: TypeAlias = Painted | Literal["given"]
Job: TypeAlias = tuple[Subject, int]
"""Kind of a scan, and its number among those."""
Contrast: TypeAlias = Literal["wide", "narrow"]
Way: TypeAlias = Literal["network", "atlas"]
"""What finds the kidneys, as `PrepareConfig.localise`."""


@dataclass(frozen=True)
class KidneyRow:
    """Measurements of one kidney of a synthetic abdomen; excess sizes are negative for a box within the limit."""

    case: int
    """Number of the abdomen."""
    side: Side
    held_share: float
    """Share of the voxels of the kidney and its tumor inside the box, 0-1; 0 without a box."""
    beyond_in_plane_mm: float
    """Size of the box beyond 110 mm, or beyond the kidney's extent and 20 mm if that is larger."""
    beyond_z_mm: float
    """Size of the box beyond the kidney's length and 40 mm."""
    confidence: float
    """Confidence of the localiser, 0-1."""


@dataclass(frozen=True)
class ScanRow:
    """Measurements of one scan."""

    subject: Subject
    case: int
    """Number of the scan among those of its subject."""
    seconds: float
    """CPU time of the localiser for both kidneys."""
    confidence: float
    """Higher confidence of both kidneys."""
    kidneys: tuple[KidneyRow, ...]
    """Kidneys that the scan shows."""
    num_false: int = 0
    """Number of kidneys that are found with confidence on a side that has none."""


@dataclass(frozen=True)
class Figures:
    """Figures over all scans, of which at least one shows a kidney."""

    num_kidneys: int
    share_held: float
    """Share of the kidneys whose box contains at least 99.5 % of them."""
    share_within_size: float
    """Share of the kidneys whose box is within the size limits."""
    least_held: float
    """Smallest share of a kidney that its box contains."""
    num_doubtful: int
    """Number of kidneys that are flagged as doubtful."""
    num_wrong_unflagged: int
    """Number of boxes that contain less than 90 % of their kidney and are not flagged."""
    num_false: int
    """Number of kidneys that are found with confidence where there is none."""
    others_flagged: float | None
    """Share of the scans without kidneys that are flagged; None without such a scan."""
    seconds: float
    """CPU time of the slowest scan, on one thread."""


@dataclass(frozen=True)
class Setting:
    """What is measured: the painter of the scans, and what finds the kidneys."""

    contrast: Contrast
    way: Way
    seed: int
    """Seed of the scans."""
    network: str | None = None
    """File of the network; None for the packaged one."""
    phantom: PhantomConfig | None = None
    """Settings of the scans; None for those of the painter and the seed."""

    given: str | None = None
    """Folder of cases in a layout of `prepare` that are measured; None for painted scans."""

    @property
    def scans(self) -> PhantomConfig:
        """Settings of the scans."""
        return self.phantom or PhantomConfig(seed=self.seed, contrast=self.contrast)


def rows(size: Size, _: Path) -> Iterator[Row]:
    """Yield the figures over unseen abdomens, other parts of the body and an empty volume; no file is written.

    Those over given scans follow. Atlases are of painted abdomens in either case.
    """
    for contrast in get_args(Contrast):
        for way in get_args(Way):
            setting = Setting(contrast, way, UNSEEN_SEED)
            figures = summarise(measure(setting, size.abdomens, num_cores()))
            yield from _rows(figures, f"{figures.num_kidneys} kidneys of {size.abdomens} {contrast} abdomens, by {way}")
            # The packaged network is the same for both painters; atlases are not.
            if size.scans and (way, contrast) != ("network", "narrow"):
                found = summarise(measure(replace(setting, given=size.scans), 0, num_cores()))
                atlases = f" of {contrast} abdomens" if way == "atlas" else ""
                yield from _rows(found, f"{found.num_kidneys} kidneys of given scans, by {way}{atlases}")


def _rows(figures: Figures, note: str) -> Iterator[Row]:
    for what, unit, value in (
        (f"kidneys of which the box holds {HELD_SHARE:.1%}", "share", figures.share_held),
        ("boxes no larger than allowed", "share", figures.share_within_size),
        ("least of a kidney that its box holds", "share", figures.least_held),
        ("kidneys flagged as doubtful", "kidneys", figures.num_doubtful),
        (f"boxes that hold less than {WRONG_SHARE:.0%} and are not flagged", "boxes", figures.num_wrong_unflagged),
        ("kidneys found where there is none", "kidneys", figures.num_false),
        ("scans without kidneys that are flagged", "share", figures.others_flagged),
        ("processor time of the slowest scan", "s", figures.seconds),
    ):
        yield Row("localise", what, unit, None if value is None else float(value), note=note)


def measure(setting: Setting, num_cases: int, workers: int, num_others: int = 4) -> list[ScanRow]:
    """Localise the kidneys of synthetic scans, or of given ones.

    Args:
        setting: what is measured.
        num_cases: number of abdomens.
        workers: number of processes.
        num_others: number of heads, of chests and of legs; one empty volume is added.

    Raises:
        ValueError: the seed is that of the atlases.
        InputError: the folder of given scans has no known layout, or a scan cannot be read.
    """
    if setting.seed == ATLAS_SEED:
        raise ValueError(f"seed {setting.seed} is that of the atlases; choose another")
    jobs = _given_jobs(setting.given) if setting.given else _painted_jobs(num_cases, num_others)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=use_one_thread) as pool:
        numbers = range(PrepareConfig().num_atlases)
        atlases = list(pool.map(partial(paint_atlas, setting.contrast), numbers)) if setting.way == "atlas" else []
        return list(pool.map(partial(measure_scan, setting, atlases), jobs))


def _painted_jobs(num_cases: int, num_others: int) -> list[Job]:
    abdomens: list[Job] = [("abdomen", index) for index in range(num_cases)]
    others: list[Job] = [(part, index) for part in get_args(OtherPart) for index in range(num_others)]
    return [*abdomens, *others, ("empty", 0)]


def _given_jobs(folder: str) -> list[Job]:
    return [("given", index) for index in range(len(find_cases(folder, KIDNEY_TUMOR).cases))]


def use_one_thread() -> None:
    """Let the libraries of images and networks use one thread, since every core has a process."""
    import torch

    use_threads(1)
    torch.set_num_threads(1)


def paint_atlas(contrast: Contrast, index: int) -> Atlas:
    """Return the atlas of a phantom."""
    painted = paint_abdomen(PhantomConfig(seed=ATLAS_SEED, contrast=contrast), index)
    return make_atlas(f"phantom-{index}", painted.image, painted.label, PrepareConfig(), synthetic=True)


def measure_scan(setting: Setting, atlases: list[Atlas], job: Job) -> ScanRow:
    """Paint or read a scan, localise its kidneys, and measure the boxes."""
    subject, index = job
    image, label = _read(setting, index) if subject == "given" else _painted(subject, setting.scans, index)
    finder = KidneyFinder(_network(setting), atlases, PrepareConfig(localise=setting.way))
    start = time.process_time()
    found = finder.find(image)
    seconds = time.process_time() - start
    sides = split_sides(label, image)
    boxes = {side: Box.around(sides == SIDE_VALUES[side], label.grid) for side in SIDES}
    kidneys = tuple(
        _measure_kidney(index, side, own, found.box(side), found.confidence_of(side), Volume(sides, label.grid))
        for side, own in boxes.items()
        if own
    )
    num_false = sum(boxes[side] is None for side in found.confident_sides)
    return ScanRow(subject, index, seconds, found.confidence, kidneys, num_false)


@lru_cache(maxsize=1)
def _network(setting: Setting) -> CoarseNetwork | None:
    if setting.way == "atlas":
        return None
    return load_network(setting.network) if setting.network else packaged_network()


def summarise(rows: list[ScanRow]) -> Figures:
    """Return the figures over all scans."""
    kidneys = [kidney for row in rows for kidney in row.kidneys]
    within = [max(kidney.beyond_in_plane_mm, kidney.beyond_z_mm) <= 0 for kidney in kidneys]
    sure = [kidney for kidney in kidneys if kidney.confidence >= LOW_CONFIDENCE]
    flagged = [row.confidence < LOW_CONFIDENCE for row in rows if not row.kidneys]
    return Figures(
        num_kidneys=len(kidneys),
        share_held=float(np.mean([kidney.held_share >= HELD_SHARE for kidney in kidneys])),
        share_within_size=float(np.mean(within)),
        least_held=float(min(kidney.held_share for kidney in kidneys)),
        num_doubtful=len(kidneys) - len(sure),
        num_wrong_unflagged=int(sum(kidney.held_share < WRONG_SHARE for kidney in sure)),
        num_false=sum(row.num_false for row in rows),
        others_flagged=float(np.mean(flagged)) if flagged else None,
        seconds=max(row.seconds for row in rows),
    )


def _measure_kidney(case: int, side: Side, own: Box, box: Box | None, confidence: float, sides: Volume) -> KidneyRow:
    if box is None:
        return KidneyRow(case, side, 0.0, 0.0, 0.0, confidence)
    limit = np.maximum(IN_PLANE_MM, np.add(own.size_mm, IN_PLANE_ROOM_MM)[1:])
    beyond = float(np.subtract(box.size_mm[1:], limit).max())
    held = box.share_of(sides.array == SIDE_VALUES[side], sides.grid)
    return KidneyRow(case, side, held, beyond, box.size_mm[0] - own.size_mm[0] - Z_ROOM_MM, confidence)


def _read(setting: Setting, index: int) -> tuple[Volume, Volume]:
    """Return a given scan and the mask of its kidneys and tumors."""
    loaded = load_case(find_cases(str(setting.given), KIDNEY_TUMOR).cases[index])
    return loaded.image, loaded.body


def _painted(subject: Painted, config: PhantomConfig, index: int) -> tuple[Volume, Volume]:
    """Return a scan and its label map, which is empty for a scan without kidneys."""
    if subject == "abdomen":
        painted = paint_abdomen(config, index)
        return painted.image, painted.label
    image = paint_other_part("head" if subject == "empty" else subject, config, index)
    if subject == "empty":
        image = Volume(np.full(config.shape, -1000, np.int16), image.grid)
    return image, Volume(np.zeros(image.array.shape, np.uint8), image.grid)
