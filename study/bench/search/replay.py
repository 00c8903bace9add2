"""How many GPU-hours a search needs to find the best configuration, replayed on the recorded curves of real trials.

A sampler draws a point, and the nearest recorded trial that was not used yet stands for it. The epochs of that trial
are given to Optuna and the scheduler as Ray Tune would give them, with several trials at once. Optuna is told the
recorded point. Samplers and pruners are those of a study; nothing is trained.
"""

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import Trial, TrialState, create_trial

from renalnet.config import merge, read_file
from renalnet.runtime.machine import num_cores
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row
from study.bench.search.recorded import NETWORK, Curve, Recorded, read_recorded
from study.config.presets import quick
from study.config.sections import SearchConfig, StudyConfig
from study.config.space import FIRST_STEP, Point
from study.records.names import trial_name
from study.records.results import Results
from study.report.analysis.statistics import rank_correlation
from study.search.optuna_private import resumed_trial
from study.search.pruner import BEST, OBJECTIVE
from study.search.sampler import CHOICES, distribution, draw, first_choices, make_sampler
from study.search.samplers.unit_cube import unit
from study.search.scheduler import NetworkScheduler

MARGIN: Final = 0.01
"""Distance in tumor Dice from the best configuration at which a search has found it."""
CURVES: Final = Path(__file__).parents[3] / "results" / "evidence" / "search"
"""The recorded study: its tables, and the configuration that it was run with."""
SEARCHES: Final = {
    "random, ASHA": SearchConfig(sampler="random"),
    "TPE, nothing pruned": SearchConfig(scheduler="none"),
    "TPE, median rule": SearchConfig(scheduler="median"),
    "TPE, ASHA": SearchConfig(),
    "random, pausing": SearchConfig(sampler="random", scheduler="pausing", reduction_factor=3),
    "TPE, pausing": SearchConfig(scheduler="pausing", reduction_factor=3),
    "Gaussian process, ASHA": SearchConfig(sampler="gp"),
    "Gaussian process, pausing": SearchConfig(sampler="gp", scheduler="pausing", reduction_factor=3),
}
"""The searches that are compared, by their name in the table."""
RANDOM: Final = SearchConfig(sampler="random", scheduler="none")
"""The search that the others are compared with."""


def rows(size: Size, _: Path) -> Iterator[Row]:
    """Yield the hours that searches need, beside random points that are all trained to their end.

    Raises:
        ResultsError: the recorded study is missing or damaged.
    """
    config = merge(quick(), read_file(CURVES / "curves.yaml"), str(CURVES))
    recorded = read_recorded(CURVES, config)
    yield from _first_rung(recorded)
    seeds = f"{size.replays} seeds, {size.replay_slots} slots, {len(recorded.curves)} recorded trials"
    random = hours_to_best(recorded, _searching(config, RANDOM), size.replay_slots, size.replays)
    for name, search in SEARCHES.items():
        hours = hours_to_best(recorded, _searching(config, search), size.replay_slots, size.replays)
        note = f"{seeds}; medians {np.median(hours):.3g} and {np.median(random):.3g} h"
        what = f"hours to the best tumor Dice - {MARGIN}: {name}"
        yield Row("search", what, "h", fmean(hours), "random points", fmean(random), "less", note)


def _first_rung(recorded: Recorded) -> Iterator[Row]:
    """Yield how well the order at the first rung predicts the final order, beside that at one epoch for all trials."""
    final = [max(curve.objectives) for curve in recorded.curves]
    epochs = [curve.point[FIRST_STEP] + SearchConfig().grace_epochs for curve in recorded.curves]
    ours = rank_correlation([max(c.objectives[:n]) for c, n in zip(recorded.curves, epochs, strict=True)], final)
    for fixed in (round(fmean(epochs)), max(epochs)):
        theirs = rank_correlation([max(curve.objectives[:fixed]) for curve in recorded.curves], final)
        note = f"at the rung trials are {fmean(epochs):.1f} epochs old on average"
        yield Row("search", "rank correlation with the end", "", ours, f"all at epoch {fixed}", theirs, "more", note)


def _searching(config: StudyConfig, search: SearchConfig) -> StudyConfig:
    return config.model_copy(update={"search": search})


def hours_to_best(recorded: Recorded, config: StudyConfig, num_slots: int, num_seeds: int) -> list[float]:
    """Return the device-hours that a search takes, for each of `num_seeds` seeds."""
    # Forked processes would inherit the threads and locks of Ray and PyTorch.
    with ProcessPoolExecutor(num_cores(), get_context("spawn")) as pool:
        epochs = pool.map(partial(_epochs_to_best, recorded, config, num_slots), range(num_seeds))
        return [number * recorded.epoch_hours for number in epochs]


def _epochs_to_best(recorded: Recorded, config: StudyConfig, num_slots: int, seed: int) -> int:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as empty:
        replay = Replay(recorded, config.model_copy(update={"seed": seed}), Results(empty))
        return replay.run(num_slots)


@dataclass
class _Running:
    """A recorded trial that is replayed."""

    number: int
    """Number in the Optuna study."""
    name: str
    """Name under which the scheduler knows it."""
    curve: Curve
    epoch: int = 0
    """Epochs that have been trained."""


@dataclass
class Replay:
    """One search over the recorded trials."""

    recorded: Recorded
    """The trials."""
    config: StudyConfig
    """The study, with the search and the seed that are replayed."""
    results: Results
    """An empty results folder."""
    _study: optuna.Study = field(init=False)
    _free: list[int] = field(init=False)
    _epochs: int = 0
    _num_started: int = 0
    _paused: dict[str, _Running] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, direction="maximize")
        self._study.set_user_attr(CHOICES, first_choices(self.recorded.searched))
        self._free = list(range(len(self.recorded.curves)))
        search = self.config.search.model_copy(update={"num_trials": len(self._free)})
        config = self.config.model_copy(update={"search": search})
        self._scheduler = NetworkScheduler(config, self.results, {}, lambda *_: None, self._on_pause)

    def run(self, num_slots: int) -> int:
        """Return the epochs trained until a trial is as good as the best configuration less `MARGIN`; all if none is.

        Args:
            num_slots: number of trials at once.
        """
        target = self.recorded.best_tumor_dice - MARGIN
        running: list[_Running] = []
        while True:
            while len(running) < num_slots and (trial := self._next(is_idle=not running)):
                running.append(trial)
            if not running:
                return self._epochs
            # A round trains one epoch of each trial, as slots of equal speed would.
            for trial in list(running):
                self._epochs += 1
                if self._train(trial) >= target:
                    return self._epochs
                if self._leaves(trial):
                    running.remove(trial)

    def _next(self, *, is_idle: bool) -> _Running | None:
        """Return the trial that takes a free slot, as the searcher of a study chooses it."""
        name = self._scheduler.next_paused(NETWORK, self._paused)
        if name is None and self._free:
            return self._start()
        if name is None and is_idle:
            # The replay ends with the best trial, whatever the number of finalists.
            name = self._scheduler.last_paused(NETWORK, self._paused, num_whole=0)
        return self._paused.pop(name) if name else None

    def _on_pause(self, name: str, _: int) -> None:
        self._leaving.add(name)

    def _start(self) -> _Running:
        """Draw the next point of the study, and take the nearest trial that is left."""
        number = self._num_started
        self._num_started += 1
        self._study.sampler = make_sampler(self.config.search, self.recorded.searched, self.config.seed, number)
        asked = self._study.ask()
        curve = self._nearest(draw(asked, self.recorded.searched))
        # The drawn point is not trained. As a failed trial it does not count; the recorded point is added instead.
        self._study.tell(asked, state=TrialState.FAIL)
        self._study.add_trial(self._as_trial(curve.point))
        return _Running(len(self._study.trials) - 1, trial_name(NETWORK, number), curve)

    def _nearest(self, point: Point) -> Curve:
        here = np.array(unit(point, self.recorded.searched))
        distances = ((self.recorded.positions[self._free] - here) ** 2).sum(axis=1)
        return self.recorded.curves[self._free.pop(int(np.argmin(distances)))]

    def _as_trial(self, point: Point) -> optuna.trial.FrozenTrial:
        forms = {name: distribution(domain) for name, domain in self.recorded.searched.items()}
        # Optuna takes intermediate values and results of running trials only.
        return create_trial(state=TrialState.RUNNING, params=point, distributions=forms)

    def _train(self, trial: _Running) -> float:
        """Train the next epoch; return the tumor Dice reached."""
        trial.epoch += 1
        return trial.curve.reached[trial.epoch - 1]

    def _leaves(self, trial: _Running) -> bool:
        """Report the last epoch to Optuna, and return whether the trial ends or pauses with it."""
        objectives = trial.curve.objectives[: trial.epoch]
        is_last = trial.epoch == len(trial.curve.objectives)
        handle = self._handle(trial.number)
        if not is_last and self._decision(trial, objectives) == "CONTINUE":
            handle.report(objectives[-1], trial.epoch)
            return False
        if trial.name in self._leaving:
            self._leaving.remove(trial.name)
            self._paused[trial.name] = trial
            handle.report(objectives[-1], trial.epoch)
        elif is_last:
            self._study.tell(trial.number, max(objectives), TrialState.COMPLETE)
        else:
            handle.report(objectives[-1], trial.epoch)
            self._study.tell(trial.number, state=TrialState.PRUNED)
        return True

    def _handle(self, number: int) -> Trial:
        return resumed_trial(self._storage, self._study, number)

    def _decision(self, trial: _Running, objectives: tuple[float, ...]) -> str:
        result: Mapping[str, Any] = {
            "epoch": trial.epoch,
            OBJECTIVE: objectives[-1],
            BEST: max(objectives),
            "done": False,
        }
        train = {"optim": {"milestones": [trial.curve.point[FIRST_STEP]]}}
        # Stands for Ray Tune's trial, of which the scheduler reads only the configuration.
        named = SimpleNamespace(config={"name": trial.name, "network": NETWORK, "train": train})
        return self._scheduler.on_trial_result(None, named, dict(result))
