"""Progress of a run on the command line, and how a user stops it."""

from collections.abc import Callable
from typing import Final

import torch
from rich.console import Console

from renalnet.runtime.durations import duration_words
from renalnet.train.board import open_board
from renalnet.train.epochs import EpochRecord
from renalnet.train.run import StepReport, TrainingRun

SLOW_STEPS: Final = 5
"""Number of steps at the start of a process that a forecast leaves out, because they are slower."""


class Watch:
    """Shows a run: a line at its start, one per epoch, a progress bar of the epoch's steps, and where it stopped."""

    def __init__(
        self,
        console: Console,
        show: Callable[[str, int, int, str], None],
        is_asked_to_stop: Callable[[], bool],
        stop_after: int | None = None,
    ) -> None:
        """Create a watch without a run.

        Args:
            console: where lines are printed.
            show: updates the progress bar: label, finished steps, all steps, text; see `progress_bars.step_progress`.
            is_asked_to_stop: whether a signal to stop was received.
            stop_after: number of steps after which the run stops; None for all.
        """
        self._console = console
        self._show = show
        self._is_asked_to_stop = is_asked_to_stop
        self._stop_after = stop_after
        self._step_s: list[float] = []
        self._run: TrainingRun | None = None

    def should_stop(self) -> bool:
        """Whether the run must stop: a signal was received, or the requested steps are done."""
        return self._is_asked_to_stop() or (self._stop_after is not None and len(self._step_s) >= self._stop_after)

    def on_step(self, report: StepReport) -> None:
        """Show a step; passed to the run."""
        self._step_s.append(report.seconds)
        if self._run is not None:
            partial = self._run.partial
            num_steps = self._run.config.steps_per_epoch
            rate = _rate_words(partial.steps * self._run.voxels_per_step, partial.trained_s)
            # The run adds a step before it reports it, so that `partial.steps` is not zero.
            words = f"loss {partial.loss_sum / partial.steps:.4f}  {rate}"
            self._show(f"epoch {report.epoch}", report.step, num_steps, words)

    def follow(self, run: TrainingRun) -> None:
        """Train to the end, or until the run must stop."""
        self._run = run
        self._print(opening(run))
        with open_board(run.folder, run.records) as add_point:
            for record in run:
                self._print(epoch_line(record, run))
                add_point(record)
        if not run.is_finished:
            self._print(self._where_it_stopped(run))

    def _where_it_stopped(self, run: TrainingRun) -> str:
        # Without a step in this process, there is nothing to forecast from.
        if self._is_asked_to_stop() or not self._step_s:
            epoch = len(run.records) + 1
            where = f"epoch {epoch}, step {run.partial.steps} of {run.config.steps_per_epoch}"
            return f"stopped in {where}; the same command resumes from there"
        return forecast(run, self._step_s)

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def opening(run: TrainingRun) -> str:
    """Return a line with the network, the device, the length of the run and the amount of validation."""
    config = run.config
    num_parameters = sum(parameter.numel() for parameter in run.net.parameters())
    compiled = ", compiled" if run.is_compiled else ""
    begun = f"; resumes after step {_count_words(run.step)}" if run.step else ""
    return (
        f"{config.net.name}, {_count_words(num_parameters)} parameters; {run.device}{compiled}, "
        f"{_counted(torch.get_num_threads(), 'thread')}; {_counted(config.epochs, 'epoch')} of "
        f"{_counted(config.steps_per_epoch, 'step')} of {_counted(config.optim.batch_size, 'crop')}; "
        f"validation: {run.validation}{begun}"
    )


def epoch_line(record: EpochRecord, run: TrainingRun) -> str:
    """Return a line about an epoch, with the estimated time of the remaining ones."""
    num_left = run.config.epochs - record.epoch
    if record.failure:
        return f"epoch {record.epoch:2d} of {run.config.epochs}  {record.failure}"
    left = f"  {duration_words(num_left * _mean_seconds(run))} left" if num_left else ""
    return (
        f"epoch {record.epoch:2d} of {run.config.epochs}  loss {record.loss:.4f}  "
        f"Dice {'  '.join(f'{name} {dice:.3f}' for name, dice in record.dice.items())}  "
        f"learning rate {record.learning_rate:g}  {_rate_words(record.voxels_per_s)}  "
        f"waiting for data {record.data_wait_share:.0%}  {duration_words(record.seconds)}{left}"
    )


def forecast(run: TrainingRun, step_s: list[float]) -> str:
    """Return a line about the estimated time of the rest of a run, from its steps and, if known, its validation."""
    seconds, skipped = step_seconds(step_s)
    total = run.config.epochs * run.config.steps_per_epoch
    validation_s = _validation_s(run)
    left_s = (total - run.step) * seconds + (run.config.epochs - len(run.records)) * (validation_s or 0.0)
    seconds_words = f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.3f}"
    left_out = f" (without the first {skipped})" if skipped else ""
    return (
        f"{_count_words(run.step)} of {_count_words(total)} steps done; {seconds_words} s per step{left_out}; the rest "
        f"takes about {duration_words(left_s)} on this machine, {'without' if validation_s is None else 'with'} "
        "validation; the same command resumes"
    )


def step_seconds(step_s: list[float]) -> tuple[float, int]:
    """Return the mean time of a process's steps without the first, slower ones, and the number of those."""
    skipped = SLOW_STEPS if len(step_s) > SLOW_STEPS else 0
    return sum(step_s[skipped:]) / len(step_s[skipped:]), skipped


def _validation_s(run: TrainingRun) -> float | None:
    """Return the validation time of the last epoch in seconds; None if it is not known."""
    if not run.records or not run.records[-1].voxels_per_s:
        return None
    # A record does not have the training time, but its rate gives it.
    record = run.records[-1]
    return max(record.seconds - run.config.steps_per_epoch * run.voxels_per_step / record.voxels_per_s, 0.0)


def _mean_seconds(run: TrainingRun) -> float:
    return sum(record.seconds for record in run.records) / len(run.records)


def _rate_words(num_voxels: float, seconds: float = 1.0) -> str:
    return f"{num_voxels / seconds / 1e6:.2f} Mvoxel/s" if seconds else ""


def _count_words(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _counted(number: int, name: str) -> str:
    return f"{_count_words(number)} {name}{'s' if number != 1 else ''}"
