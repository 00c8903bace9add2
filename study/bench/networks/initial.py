"""Benchmark of the packaged bundle as initial weights: best validation Dice so far, beside runs from random weights.

Both starts have the same cases, seeds, schedule and number of steps, those of the preset `anatomy` but shorter.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

import numpy as np

from renalnet.config.training import PACKAGED
from renalnet.errors import ResultsError
from renalnet.runtime.machine import num_cores
from renalnet.train.epochs import LOG_FILE, EpochRecord
from study.bench.data.localise import UNSEEN_SEED
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row

RANDOM: Final = "random"
STARTS: Final = (PACKAGED, RANDOM)
"""Beginnings of a run: weights of the packaged bundle, and random ones."""


@dataclass(frozen=True)
class Curve:
    """Best values of a run so far, after each epoch."""

    minutes: tuple[float, ...]
    """Time of training and validation since the beginning of the run."""
    objective: tuple[float, ...]
    """Best mean validation Dice of kidney and tumor so far, 0-1."""


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the best Dice after each epoch, as the mean over the seeds; everything is written into `folder`.

    Raises:
        ResultsError: a command failed.
    """
    _make_store(size, folder)
    curves = {start: [_trained(folder, start, seed, size) for seed in range(size.initial_seeds)] for start in STARTS}
    yield from compared(curves[PACKAGED], curves[RANDOM])


def compared(ours: list[Curve], theirs: list[Curve]) -> Iterator[Row]:
    """Yield a row an epoch that compares runs from the packaged weights with runs from random ones."""
    for epoch, (own, other) in enumerate(zip(_each_epoch(ours), _each_epoch(theirs), strict=True), start=1):
        minutes = float(np.mean([curve.minutes[epoch - 1] for curve in ours]))
        spans = " and ".join(f"{min(values):.3f} to {max(values):.3f}" for values in (own, other))
        yield Row(
            "init",
            f"best validation Dice after {epoch} epochs",
            "Dice",
            float(np.mean(own)),
            "random weights",
            float(np.mean(other)),
            note=f"{minutes:.1f} min; {len(own)} seeds: {spans}",
        )


def _each_epoch(curves: list[Curve]) -> Iterator[tuple[float, ...]]:
    return zip(*(curve.objective for curve in curves), strict=True)


def _make_store(size: Size, folder: Path) -> None:
    cohort = ("--set", f"num_cases={size.initial_cases}", "--set", f"seed={UNSEEN_SEED}")
    labels = ("--labels", size.label_maps) if size.label_maps else ()
    _renalnet("phantom", "--out", str(folder / "cohort"), *cohort, *labels)
    _renalnet("prepare", str(folder / "cohort"), "--out", str(folder / "store"), "--preset", "anatomy")


def _trained(folder: Path, start: str, seed: int, size: Size) -> Curve:
    run = folder / f"{start}-{seed}"
    epochs = size.initial_epochs
    # The learning rate falls in the last third, as it does in the preset.
    values = [
        f"seed={seed}",
        f"epochs={epochs}",
        f"steps_per_epoch={size.initial_steps}",
        f"optim.milestones=[{max(1, 2 * epochs // 3)}]",
        "loss.background=1.0",
        *(["init=" + PACKAGED] if start == PACKAGED else []),
    ]
    settings = [word for value in values for word in ("--set", value)]
    threads = ("--threads", str(num_cores()))
    _renalnet("train", str(folder / "store"), "--out", str(run), "--preset", "anatomy", *threads, *settings)
    lines = (run / LOG_FILE).read_text(encoding="utf-8").splitlines()
    return curve_of([EpochRecord.from_json(json.loads(line)) for line in lines])


def curve_of(records: list[EpochRecord]) -> Curve:
    """Return the best values so far of the epochs of a run."""
    minutes = accumulate(record.seconds / 60 for record in records)
    objective = accumulate((record.objective for record in records), max)
    return Curve(tuple(minutes), tuple(objective))


def _renalnet(*words: str) -> None:
    command = [sys.executable, "-m", "renalnet", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise ResultsError(f"{' '.join(words)} failed: {last}; run it alone to see its output")
