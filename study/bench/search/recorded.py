"""Learning curves of real trials at random points, on which a search can be replayed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import MAIN_NETWORK
from renalnet.errors import ResultsError
from study.config.sections import StudyConfig
from study.config.space import Domain, Point, domains, first_point
from study.records.parquet import read_parquet
from study.records.results import Results
from study.search.samplers.unit_cube import unit

NETWORK: Final = MAIN_NETWORK
"""Network whose trials are replayed."""


@dataclass(frozen=True)
class Curve:
    """The values of a trial after each epoch."""

    point: Point
    """Values of the searched parameters."""
    objectives: tuple[float, ...]
    """Objective after each epoch, 0-1."""
    dice_tumor: tuple[float, ...]
    """Tumor Dice after each epoch, 0-1."""

    @cached_property
    def reached(self) -> tuple[float, ...]:
        """After each epoch, the tumor Dice of the epoch that had the highest objective so far."""
        best = [int(np.argmax(self.objectives[: end + 1])) for end in range(len(self.objectives))]
        return tuple(self.dice_tumor[epoch] for epoch in best)


@dataclass(frozen=True)
class Recorded:
    """The curves of a finished study at random points, none of them pruned."""

    curves: tuple[Curve, ...]
    """One curve per trial."""
    searched: Mapping[str, Domain]
    """Domain of each searched parameter."""
    epoch_hours: float
    """GPU-hours, or processor-hours, of an epoch: the median, which leaves out the machine's noise."""

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """The curves' points in the unit cube, one row per curve; a choice has one column per option."""
        return np.array([unit(curve.point, self.searched) for curve in self.curves])

    @property
    def best_tumor_dice(self) -> float:
        """Tumor Dice of the best configuration, 0-1."""
        return max(curve.reached[-1] for curve in self.curves)


def read_recorded(folder: Path, config: StudyConfig) -> Recorded:
    """Read the curves from `trials.parquet` and `curves.parquet` of a results folder, or of a copy of these two.

    Raises:
        ResultsError: the tables are missing, no trial trained all its epochs, or a trial is outside of the space.
    """
    results = Results(str(folder))
    try:
        trials = read_parquet(results.trials_path)
        epochs = read_parquet(results.curves_path)
    except FileNotFoundError as error:
        raise ResultsError(f"{folder} holds no recorded study; name a folder with its two tables") from error
    complete = [row for row in trials if row["network"] == NETWORK and row["state"] == "complete"]
    if not complete:
        raise ResultsError(f"{folder}: no trial of {NETWORK} ran to its end; record a study without pruning")
    by_name = _by_name(epochs)
    curves = tuple(_curve(row, by_name[row["name"]], config) for row in complete)
    hours = np.median([row["seconds"] / row["epochs"] for row in complete]) / 3600
    return Recorded(curves, domains(config.space, NETWORK), float(hours))


def _by_name(epochs: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the epochs of each trial, in their order."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(epochs, key=lambda row: row["epoch"]):
        by_name.setdefault(row["name"], []).append(row)
    return by_name


def _curve(trial: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]], config: StudyConfig) -> Curve:
    train = type(config.train).model_validate(json.loads(trial["config"]))
    point = first_point(train, config.space, NETWORK)
    if point is None:
        raise ResultsError(
            f"{trial['name']} is outside of the space of the configuration; name the one it was recorded with"
        )
    return Curve(point, tuple(e["objective"] for e in epochs), tuple(e["dice_tumor"] for e in epochs))
