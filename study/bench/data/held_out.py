"""Benchmark of the localiser on scans of a kind that was left out of its training.

A network is trained for each setting that is left out: a contrast phase, a reconstruction kernel, a build. It is
measured on painted abdomens of this setting alone. One more network learns from narrow phantoms, and is measured on
wide ones.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.prepare.localiser_jobs import ABDOMEN, LocaliserJob, coarse_of, localiser_of, phantom_jobs
from renalnet.runtime.machine import num_cores
from study.bench.data.localise import HELD_SHARE, UNSEEN_SEED, Figures, Setting, measure, summarise
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row


@dataclass(frozen=True)
class LeftOut:
    """What a localiser learns from, and what it is measured on: changes of a `PhantomConfig`."""

    name: str
    training: dict[str, Any]
    testing: dict[str, Any]


LEFT_OUT: Final = (
    LeftOut(
        "the corticomedullary phase",
        {"phases": ("unenhanced", "nephrographic", "excretory")},
        {"phases": ("corticomedullary",)},
    ),
    LeftOut("the noise of sharp kernels", {"kernels": ("smooth", "standard")}, {"kernels": ("sharp",)}),
    LeftOut("broad builds", {"builds": ("slim", "medium")}, {"builds": ("broad",)}),
    LeftOut("all but narrow phantoms", {"contrast": "narrow"}, {}),
)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the figures of each localiser; its network is written into `folder`."""
    for number, left_out in enumerate(LEFT_OUT):
        path = folder / f"localiser-{number}.safetensors"
        path.write_bytes(trained(ABDOMEN.model_copy(update=left_out.training), size))
        config = PhantomConfig(seed=UNSEEN_SEED).model_copy(update=left_out.testing)
        setting = Setting("wide", "network", UNSEEN_SEED, str(path), config)
        figures = summarise(measure(setting, size.held_out_abdomens, num_cores()))
        yield from _rows(figures, f"left out: {left_out.name}; {figures.num_kidneys} kidneys")
        if size.scans:
            found = summarise(measure(replace(setting, given=size.scans), 0, num_cores()))
            yield from _rows(found, f"left out: {left_out.name}; {found.num_kidneys} kidneys of given scans")


def trained(phantom: PhantomConfig, size: Size) -> bytes:
    """Return the file of a localiser that has learnt from painted abdomens and other parts of the body."""
    config = PrepareConfig(localiser_start="random", localiser_steps=size.localiser_steps)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_cores(), mp_context=context) as pool:
        scans = tuple(pool.map(coarse_of, phantom_jobs(size.localiser_phantoms, phantom), chunksize=8))
    return localiser_of(LocaliserJob(scans, config, ""))


def _rows(figures: Figures, note: str) -> Iterator[Row]:
    found = 1 - figures.num_doubtful / figures.num_kidneys
    for what, unit, value in (
        ("kidneys found with confidence", "share", found),
        (f"kidneys of which the box holds {HELD_SHARE:.1%}", "share", figures.share_held),
        ("kidneys found where there is none", "kidneys", figures.num_false),
        ("scans without kidneys that are flagged", "share", figures.others_flagged),
    ):
        yield Row("held-out", what, unit, None if value is None else float(value), note=note)
