"""Learning curves of real trials at random points, as a table that a search can be replayed on."""

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
from study.records import paths
from study.records.trials import read_parquet
from study.config.space import Choice, Domain, Point, Real, domains, first_point

NETWORK: Final = MAIN_NETWORK


@dataclass(frozen=True)
class Curve:
    """What a trial reached after each epoch."""

    point: Point
    objectives: tuple[float, ...]
    dice_tumor: tuple[float, ...]

    @cached_property
    def reached(self) -> tuple[float, ...]:
        """Tumor Dice after each epoch of the epoch that had the best objective so far."""
        best = [int(np.argmax(self.objectives[: end + 1])) for end in range(len(self.objectives))]
        return tuple(self.dice_tumor[epoch] for epoch in best)


@dataclass(frozen=True)
class Recorded:
    """The curves of a finished study at random points, none of them pruned."""

    curves: tuple[Curve, ...]
    searched: Mapping[str, Domain]
    epoch_hours: float
    """GPU-hours (or CPU-hours) of an epoch: the median, since the machine's noise is not the search's."""

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """A row a curve: its point in the unit cube, a column an option for a choice."""
        return np.array([unit(curve.point, self.searched) for curve in self.curves])

    @property
    def best_tumor_dice(self) -> float:
        """Tumor Dice of the best configuration."""
        return max(curve.reached[-1] for curve in self.curves)


def unit(point: Point, searched: Mapping[str, Domain]) -> list[float]:
    """A point as numbers of which each spans 0-1; two options of a choice are as far apart as a range's ends."""
    numbers: list[float] = []
    for name, domain in searched.items():
        value = point[name]
        if isinstance(domain, Choice):
            numbers += [np.sqrt(0.5) * (value == option) for option in domain.options]
        elif isinstance(domain, Real) and domain.log:
            numbers.append(np.log(value / domain.low) / np.log(domain.high / domain.low))
        else:
            numbers.append((value - domain.low) / max(domain.high - domain.low, 1))
    return numbers


def read_recorded(folder: Path, config: StudyConfig) -> Recorded:
    """The curves in `trials.parquet` and `curves.parquet` of a results folder, or of a copy of these two.

    Raises:
        ResultsError: there are none, or a trial did not run to its end.
    """
    try:
        trials = read_parquet(str(folder / paths.TRIALS_TABLE))
        epochs = read_parquet(str(folder / paths.CURVES_TABLE))
    except FileNotFoundError as error:
        raise ResultsError(f"{folder} holds no recorded study; name a folder with its two tables") from error
    searched = domains(config.space, NETWORK)
    complete = [row for row in trials if row["network"] == NETWORK and row["state"] == "complete"]
    if not complete:
        raise ResultsError(f"{folder}: no trial of {NETWORK} ran to its end; record a study without pruning")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(epochs, key=lambda row: row["epoch"]):
        by_name.setdefault(row["name"], []).append(row)
    curves = tuple(_curve(row, by_name[row["name"]], config) for row in complete)
    hours = np.median([row["seconds"] / row["epochs"] for row in complete]) / 3600
    return Recorded(curves, searched, float(hours))


def _curve(trial: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]], config: StudyConfig) -> Curve:
    train = type(config.train).model_validate(json.loads(trial["config"]))
    point = first_point(train, config.space, NETWORK)
    if point is None:
        raise ResultsError(f"{trial['name']} lies outside of the space that the curves were recorded in")
    return Curve(point, tuple(e["objective"] for e in epochs), tuple(e["dice_tumor"] for e in epochs))
