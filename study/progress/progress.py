"""How far a study is: trials, the best so far, hours spent and saved, time left. Reads the results' records only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from renalnet.config import NetName
from renalnet.runtime import storage
from renalnet.runtime.durations import duration_words
from renalnet.train.epochs import EpochRecord, best_of
from study.config.sections import Slots, StudyConfig
from study.finalists.finalists import OURS
from study.records.trials import State, TrialRecord, find_record, read_epochs
from study.search.rungs import saved_by_pruning
from study.search.trial_counts import count_repeats, count_trials

ENDED: Final[tuple[State, ...]] = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class TrialFigures:
    """What a trial has cost and reached so far."""

    name: str
    network: str
    state: State
    num_epochs: int
    planned_epochs: int
    seconds: float
    """Of its epochs; the one under way is not in it."""
    waited_s: float
    """Part of them that went by waiting for data, as the epochs' shares tell."""
    num_devices: float
    """GPUs that it occupies; processors where it has no GPU."""
    best: EpochRecord | None
    is_repeat: bool = False
    """Whether it is a finalist's further run, which nobody prunes, and no trial of the search."""

    @property
    def has_ended(self) -> bool:
        """Whether it trains no more."""
        return self.state in ENDED

    @property
    def hours(self) -> float:
        """GPU-hours, or processor-hours, of its epochs."""
        return self.seconds * self.num_devices / 3600

    @property
    def saved_hours(self) -> float:
        """What the epochs that a pruned trial did not train would have cost, at its own mean time an epoch."""
        return saved_by_pruning(self.hours, self.num_epochs, self.planned_epochs) if self.state == "pruned" else 0.0


@dataclass(frozen=True)
class Progress:
    """A study at one moment."""

    num_planned: int
    """Trials of the search and repeats of its finalists."""
    counts: Mapping[State, int]
    """Trials that have begun, by state."""
    best: TrialFigures | None
    """The trial of 3D_FCN_PPM with the best epoch so far."""
    device: str
    """What the hours are of: GPU or CPU."""
    spent_hours: float
    saved_hours: float
    """By pruning."""
    wait_share: float
    """Part of the epochs' time that went by waiting for data, 0-1."""
    left_s: float | None
    """Of the search and the repeats; none before an epoch has been measured."""

    @property
    def num_ended(self) -> int:
        """Trials that train no more."""
        return sum(self.counts.get(state, 0) for state in ENDED)

    @property
    def is_ended(self) -> bool:
        """Whether every planned trial has ended; the final stage may still run."""
        return self.num_ended >= self.num_planned


class StudyFollower:
    """Follows the trials and repeats of a results folder; one that has ended is read once, others at every look."""

    def __init__(self, config: StudyConfig, results: str, slots: Slots) -> None:
        """Look at nothing yet.

        Args:
            config: the whole study.
            results: the results folder, any path that `storage` knows.
            slots: what a trial occupies, and how many run at once.
        """
        self._config, self._results, self._slots = config, results, slots
        self._ended: dict[str, TrialFigures] = {}

    def look(self) -> Progress:
        """The study now."""
        return progress_of(self._read(), self._config, self._slots)

    def _read(self) -> list[TrialFigures]:
        names = storage.list_names(storage.join(self._results, "trials"))
        found = [self._ended.get(name) or self._figures(name) for name in names]
        trials = [trial for trial in found if trial]
        self._ended = {trial.name: trial for trial in trials if trial.has_ended}
        return trials

    def _figures(self, name: str) -> TrialFigures | None:
        record = find_record(self._results, name)
        return figures_of(record, read_epochs(self._results, name)) if record else None


def figures_of(record: TrialRecord, epochs: Sequence[EpochRecord]) -> TrialFigures:
    """A trial's cost and best epoch, from its record and log."""
    return TrialFigures(
        name=record.name,
        network=record.network,
        state=record.state,
        num_epochs=sum(not epoch.failure for epoch in epochs),
        planned_epochs=record.train["epochs"],
        seconds=sum(epoch.seconds for epoch in epochs),
        waited_s=sum(epoch.seconds * epoch.data_wait_share for epoch in epochs),
        num_devices=record.gpus or record.cpus,
        best=best_of(epochs),
        is_repeat=bool(record.repeat_of),
    )


def progress_of(trials: Sequence[TrialFigures], config: StudyConfig, slots: Slots) -> Progress:
    """What the trials' figures come to."""
    seconds = sum(trial.seconds for trial in trials)
    scored = [trial for trial in trials if trial.best and trial.network == OURS and not trial.is_repeat]
    return Progress(
        num_planned=sum(_num_trials(trials, config).values()) + sum(_num_repeats(trials, config).values()),
        counts=Counter(trial.state for trial in trials),
        best=max(scored, key=_objective, default=None),
        device="GPU" if slots.gpus else "CPU",
        spent_hours=sum(trial.hours for trial in trials),
        saved_hours=sum(trial.saved_hours for trial in trials),
        wait_share=sum(trial.waited_s for trial in trials) / seconds if seconds else 0.0,
        left_s=_left_s(trials, config, slots.num_slots),
    )


def progress_line(progress: Progress) -> str:
    """A study's state in one line of words."""
    count = progress.counts.get
    states = [f"{count(state)} {state}" for state in ("pruned", "failed", "running") if count(state)]
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
    """The best trial so far; empty where there is none."""
    if best is None or best.best is None:
        return ""
    epoch = best.best
    dice = f"Dice kidney {epoch.dice_kidney:.3f}, tumor {epoch.dice_tumor:.3f}"
    return f"best {best.name} {epoch.objective:.3f} ({dice})"


def hours_words(hours: float) -> str:
    """Three digits, more where they count whole hours."""
    return f"{hours:.0f}" if hours >= 100 else f"{hours:.3g}"


def _objective(trial: TrialFigures) -> float:
    return trial.best.objective if trial.best else 0.0


def _left_s(trials: Sequence[TrialFigures], config: StudyConfig, num_slots: int) -> float | None:
    """Seconds until the last trial ends: the work left, shared by the slots, but no less than the longest trial's.

    A trial of the search is expected to train as many epochs as those that have ended and got as far as it has did on
    average, each in its network's mean time; where none has, or nothing was measured, all its epochs, in the study's
    mean time. Repeats train all of theirs.
    """
    if not any(trial.num_epochs for trial in trials):
        return None
    works: list[float] = []
    repeats, epochs = _num_repeats(trials, config), config.train.epochs
    for network, number in _num_trials(trials, config).items():
        ours = [trial for trial in trials if trial.network == network]
        seconds = _epoch_s(ours) or _epoch_s(trials)
        searched = [trial for trial in ours if not trial.is_repeat]
        again = [trial for trial in ours if trial.is_repeat]
        lengths = [
            *(_expected_epochs(searched, reached, epochs) - reached for reached in _reached(searched, number)),
            *(max(epochs - reached, 0) for reached in _reached(again, repeats[network])),
        ]
        works += [seconds * length for length in lengths]
    return max(sum(works) / num_slots, *works, 0.0)


def _reached(begun: Sequence[TrialFigures], number: int) -> list[int]:
    """Epochs behind each of `number` planned runs that have not ended."""
    running = [trial.num_epochs for trial in begun if not trial.has_ended]
    return [*running, *[0] * (number - len(begun))]


def _num_trials(trials: Sequence[TrialFigures], config: StudyConfig) -> dict[NetName, int]:
    """Planned trials of each network, and no fewer than have begun."""
    known = Counter(trial.network for trial in trials if not trial.is_repeat)
    return {network: max(number, known[network]) for network, number in count_trials(config).items()}


def _num_repeats(trials: Sequence[TrialFigures], config: StudyConfig) -> dict[NetName, int]:
    """Planned repeats of each network, and no fewer than there are: of those who were finalists once, too."""
    known = Counter(trial.network for trial in trials if trial.is_repeat)
    return {network: max(number, known[network]) for network, number in count_repeats(config).items()}


def _epoch_s(trials: Sequence[TrialFigures]) -> float:
    num_epochs = sum(trial.num_epochs for trial in trials)
    return sum(trial.seconds for trial in trials) / num_epochs if num_epochs else 0.0


def _expected_epochs(trials: Sequence[TrialFigures], reached: int, planned: int) -> float:
    ended = [trial.num_epochs for trial in trials if trial.has_ended and trial.num_epochs > reached]
    return sum(ended) / len(ended) if ended else max(planned, reached)
