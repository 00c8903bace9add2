"""Progress of a study: its trials, the best so far, hours spent and saved, time left. It reads only trial records."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from renalnet.config import MAIN_NETWORK, NetName
from renalnet.runtime import storage
from renalnet.runtime.durations import duration_words
from renalnet.train.epochs import EpochRecord, best_of
from study.config.sections import Slots, StudyConfig
from study.records.names import trial_name
from study.records.results import Results
from study.records.trials import State, TrialRecord, find_record, read_epochs
from study.search.rungs import saved_by_pruning
from study.search.trial_counts import count_repeats, count_trials, num_finalists

ENDED: Final[tuple[State, ...]] = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class TrialFigures:
    """Cost and result of a trial or repeat so far."""

    name: str
    """Name of the trial, such as `fcn_ppm-0003`."""
    network: str
    """Key of the network."""
    state: State
    """How it ended, or `running`, or `paused`."""
    num_epochs: int
    """Epochs that have ended well."""
    planned_epochs: int
    """Epochs that it trains unless it is pruned."""
    seconds: float
    """Time of its ended epochs."""
    waited_s: float
    """Time of these epochs spent waiting for data."""
    num_devices: float
    """GPUs that it occupies; processors where it has no GPU."""
    best: EpochRecord | None
    """The epoch with the highest objective; None before an epoch has ended."""
    is_repeat: bool = False
    """Whether it repeats a finalist. A repeat is never pruned."""

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, in whichever state."""
        return self.state in ENDED

    @property
    def hours(self) -> float:
        """GPU-hours, or processor-hours, of its epochs."""
        return self.seconds * self.num_devices / 3600

    @property
    def saved_hours(self) -> float:
        """Hours that the remaining epochs of a pruned trial would have cost, at its own mean time per epoch."""
        return saved_by_pruning(self.hours, self.num_epochs, self.planned_epochs) if self.state == "pruned" else 0.0


@dataclass(frozen=True)
class Progress:
    """Progress of a study at one moment."""

    num_planned: int
    """Trials of the search and repeats of its finalists."""
    counts: Mapping[State, int]
    """Number of started trials and repeats, by state."""
    best: TrialFigures | None
    """The trial of 3D_FCN_PPM with the best epoch so far."""
    device: str
    """Device that the hours are counted for: `GPU` or `CPU`."""
    spent_hours: float
    """Hours of all epochs."""
    saved_hours: float
    """Hours saved by pruning."""
    wait_share: float
    """Share of the epochs' time spent waiting for data, 0 to 1."""
    left_s: float | None
    """Time left of the search and the repeats; None before an epoch has ended."""

    @property
    def num_ended(self) -> int:
        """Number of trials and repeats that have ended."""
        return sum(self.counts.get(state, 0) for state in ENDED)

    @property
    def is_ended(self) -> bool:
        """Whether every planned trial has ended; the final stage may still run."""
        return self.num_ended >= self.num_planned


class StudyFollower:
    """Reader of the progress of a study. An ended trial is read once, the others at every look."""

    def __init__(self, config: StudyConfig, results: Results, slots: Slots) -> None:
        """Read nothing yet.

        Args:
            config: the study's configuration.
            results: the results folder.
            slots: what a trial occupies, and how many run at once.
        """
        self._config = config
        self._results = results
        self._slots = slots
        self._ended: dict[str, TrialFigures] = {}

    def look(self) -> Progress:
        """Return the current progress."""
        return progress_of(self._read(), self._config, self._slots)

    def _read(self) -> list[TrialFigures]:
        names = storage.list_names(self._results.trials_folder)
        found = [self._ended.get(name) or self._figures(name) for name in names]
        trials = [trial for trial in found if trial]
        self._ended = {trial.name: trial for trial in trials if trial.has_ended}
        return trials

    def _figures(self, name: str) -> TrialFigures | None:
        record = find_record(self._results, name)
        return figures_of(record, read_epochs(self._results, name)) if record else None


def figures_of(record: TrialRecord, epochs: Sequence[EpochRecord]) -> TrialFigures:
    """Return the cost and the best epoch of a trial, from its record and its log."""
    return TrialFigures(
        name=record.name,
        network=record.network,
        state=record.state,
        num_epochs=sum(not epoch.failure for epoch in epochs),
        planned_epochs=record.train["epochs"],
        # Failed epochs as well, because they occupied the slot.
        seconds=sum(epoch.seconds for epoch in epochs),
        # Weighted by time, so that a short epoch that waited long does not dominate the share.
        waited_s=sum(epoch.seconds * epoch.data_wait_share for epoch in epochs),
        num_devices=record.gpus or record.cpus,
        best=best_of(epochs),
        is_repeat=bool(record.repeat_of),
    )


def progress_of(trials: Sequence[TrialFigures], config: StudyConfig, slots: Slots) -> Progress:
    """Return the progress of a study from the figures of its trials."""
    seconds = sum(trial.seconds for trial in trials)
    scored = [trial for trial in trials if trial.best and trial.network == MAIN_NETWORK and not trial.is_repeat]
    return Progress(
        num_planned=sum(_num_trials(trials, config).values()) + sum(_num_repeats(trials, config).values()),
        counts=Counter(trial.state for trial in trials),
        best=max(scored, key=_objective, default=None),
        device="GPU" if slots.real_gpus else "CPU",
        spent_hours=sum(trial.hours for trial in trials),
        saved_hours=sum(trial.saved_hours for trial in trials),
        wait_share=sum(trial.waited_s for trial in trials) / seconds if seconds else 0.0,
        left_s=_left_s(trials, config, slots.num_slots),
    )


def progress_line(progress: Progress) -> str:
    """Return the progress as one line of text."""
    count = progress.counts.get
    states = [f"{count(state)} {state}" for state in ("pruned", "failed", "paused", "running") if count(state)]
    saved = f"{hours_words(progress.saved_hours)} saved by pruning"
    spent = f"{hours_words(progress.spent_hours)} {progress.device}-hours spent, {saved}"
    left = "" if progress.left_s is None else f"about {duration_words(progress.left_s)} of search left"
    parts = (
        ", ".join([f"{progress.num_ended} of {progress.num_planned} trials ended", *states]),
        best_words(progress.best),
        spent,
        f"waiting for data {progress.wait_share:.0%}",
        "search ended" if progress.is_ended else left,
    )
    return " · ".join(filter(None, parts))


def best_words(best: TrialFigures | None) -> str:
    """Return the best trial so far as text; empty before an epoch has ended."""
    if best is None or best.best is None:
        return ""
    epoch = best.best
    dice = ", ".join(f"{name} {value:.3f}" for name, value in epoch.dice.items())
    return f"best {best.name} {epoch.objective:.3f} (Dice {dice})"


def hours_words(hours: float) -> str:
    """Return hours with three significant digits, from 100 hours on in whole hours."""
    return f"{hours:.0f}" if hours >= 100 else f"{hours:.3g}"


def _objective(trial: TrialFigures) -> float:
    return trial.best.objective if trial.best else 0.0


def _left_s(trials: Sequence[TrialFigures], config: StudyConfig, num_slots: int) -> float | None:
    """Return the seconds until the last trial ends; None before an epoch has ended.

    This is the remaining work divided by the slots, but at least the remaining work of the longest trial. A trial of
    the search is expected to reach the mean length of the ended trials that trained longer than it has so far; without
    such a trial, all of its epochs. A repeat trains all of its epochs. An epoch takes the mean time of the network's
    epochs, or the study's mean time where the network has none.
    """
    if not any(trial.num_epochs for trial in trials):
        return None
    repeats = _num_repeats(trials, config)
    works_s = [
        seconds
        for network, number in _num_trials(trials, config).items()
        for seconds in _works_s(trials, network, number, repeats[network], config.train.epochs)
    ]
    # The 0.0 is the second argument that `max` needs where no run is left.
    return max(sum(works_s) / num_slots, *works_s, 0.0)


def _works_s(
    trials: Sequence[TrialFigures], network: NetName, num_trials: int, num_repeats: int, epochs: int
) -> list[float]:
    """Return the expected remaining seconds of each run of a network that has not ended."""
    runs = [trial for trial in trials if trial.network == network]
    epoch_s = _epoch_s(runs) or _epoch_s(trials)
    searched = [run for run in runs if not run.is_repeat]
    repeats = [run for run in runs if run.is_repeat]
    lengths = [
        *(_expected_epochs(searched, reached, epochs) - reached for reached in _reached(searched, num_trials)),
        *(max(epochs - reached, 0) for reached in _reached(repeats, num_repeats)),
    ]
    return [epoch_s * length for length in lengths]


def _reached(begun: Sequence[TrialFigures], number: int) -> list[int]:
    """Return the epochs trained so far by each of `number` planned runs that have not ended."""
    running = [trial.num_epochs for trial in begun if not trial.has_ended]
    # Never negative: `number` is at least the number of begun runs (`_num_trials`, `_num_repeats`).
    return [*running, *[0] * (number - len(begun))]


def _num_trials(trials: Sequence[TrialFigures], config: StudyConfig) -> dict[NetName, int]:
    """Return the number of trials by network: the planned ones, or the started ones where these are more."""
    # A resumed study may plan fewer trials than have started.
    known = Counter(trial.network for trial in trials if not trial.is_repeat)
    return {network: max(number, known[network]) for network, number in count_trials(config).items()}


def _num_repeats(trials: Sequence[TrialFigures], config: StudyConfig) -> dict[NetName, int]:
    """Return the number of repeats by network; repeats of earlier finalists count as well."""
    planned = count_repeats(config, _num_finalists(trials, config))
    known = Counter(trial.network for trial in trials if trial.is_repeat)
    return {network: max(number, known[network]) for network, number in planned.items()}


def _num_finalists(trials: Sequence[TrialFigures], config: StudyConfig) -> int:
    """Return the number of finalists of 3D_FCN_PPM, by the objectives so far."""
    most = num_finalists(config)
    ours = [t for t in trials if t.network == MAIN_NETWORK and t.best and not t.is_repeat and t.state != "failed"]
    best = sorted(ours, key=_objective, reverse=True)[: config.final.num_finalists]
    # The paper's point is one more, unless it is among the best.
    is_among = trial_name(MAIN_NETWORK, 0) in [trial.name for trial in best]
    return min(most, config.final.num_finalists) if is_among else most


def _epoch_s(trials: Sequence[TrialFigures]) -> float:
    num_epochs = sum(trial.num_epochs for trial in trials)
    return sum(trial.seconds for trial in trials) / num_epochs if num_epochs else 0.0


def _expected_epochs(trials: Sequence[TrialFigures], reached: int, planned: int) -> float:
    ended = [trial.num_epochs for trial in trials if trial.has_ended and trial.num_epochs > reached]
    return sum(ended) / len(ended) if ended else max(planned, reached)
