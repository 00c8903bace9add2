"""Work that runs as Ray tasks, one per case: preparation, prediction, measurements of a forecast, the final stage."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from renalnet.config import StitchConfig
from renalnet.errors import InputError, LostError, RenalnetError
from renalnet.runtime.log import get_logger
from renalnet.runtime.machine import keep_memory, num_threads
from renalnet.runtime.workers import DIED, Job, Result
from study.config.sections import Slots
from study.execution.own_ray import num_memory_losses
from study.execution.slots import processor_slots
from study.final.case_jobs import CompactVote, FinalCase, cast_vote

if TYPE_CHECKING:
    from study.progress.trial_cost import Measured, MeasureJob

_log = get_logger(__name__)
NODE_LOSSES: Final = 2
"""Number of times that Ray repeats a task whose node or process is lost."""
LOG_EVERY_S: Final = 10.0
"""Time between two lines of the final stage."""
_NODE_MEMORY: Final = re.compile(r" was (\S+)GB used / (\S+)GB limit")
_TASK_MEMORY: Final = re.compile(r"actual memory used=(\S+)GB")
"""The memory of the node and of each process that Ray ended, in the message of its error, which has no fields."""
_AHEAD: Final = 2
"""Tasks per slot that are submitted before the first result is read. More would hold results in memory."""


class RayPool:
    """A `renalnet.runtime.workers.JobPool` that runs the same functions as Ray tasks, on every node of the cluster."""

    def __init__(
        self,
        slots: Slots,
        start: Callable[[], None] | None = None,
        lost: Callable[[Any, str], RenalnetError] | None = None,
    ) -> None:
        """Start no task yet.

        Args:
            slots: processors and GPUs of a job, and how many jobs run at once.
            start: called in the task's process before each job.
            lost: returns the error for a job whose processes died, from the job and the reason; by default, the error
                is one of the job's file.
        """
        self._slots = slots
        self._start = start
        self._lost = lost or _damaged
        self._task = _apply.options(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=NODE_LOSSES)

    def map(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        died: Callable[[Job, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield the result of each job in order, as `JobPool.map` does."""
        return self.gather(((job, self.submit(function, job)) for job in jobs), died)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a task and return its future; arguments may be futures of other tasks."""
        return self._task.remote(function, self._start, *arguments)

    def gather(
        self, tasks: Iterable[tuple[Job, Any]], died: Callable[[Job, str], Result] | None = None
    ) -> Iterator[Result]:
        """Yield the results of tasks in order, and submit few tasks ahead.

        Args:
            tasks: pairs of job and future; the next pair is drawn when its task should be submitted.
            died: returns the result of a job whose processes died, from the job and the reason; by default, the
                pool's `lost` is raised.
        """
        pending: deque[tuple[Job, Any]] = deque()
        for task in tasks:
            pending.append(task)
            if len(pending) >= _AHEAD * self._slots.num_slots:
                yield _result(*pending.popleft(), died or self._raise_lost)
        while pending:
            yield _result(*pending.popleft(), died or self._raise_lost)

    def _raise_lost(self, job: Any, reason: str) -> NoReturn:
        raise self._lost(job, reason)


@ray.remote
def _apply(function: Callable[..., Result], start: Callable[[], None] | None, *arguments: Any) -> Result:
    # For each job, because Ray decides which process runs it.
    if start:
        start()
    return function(*arguments)


def _result(job: Job, task: Any, died: Callable[[Job, str], Result]) -> Result:
    try:
        value: Result = ray.get(task)
    # This branch comes first, because RayTaskError is a RayError too.
    except RayTaskError as error:
        # The command line translates these errors by their own types.
        if isinstance(error.cause, RenalnetError | OSError):
            raise error.cause from None
        if isinstance(error.cause, RayError):  # the task whose result this one needs is lost
            return died(job, _reason(error.cause))
        raise
    except RayError as error:  # the process, the node or the result of the task is lost
        return died(job, _reason(error))
    return value


def _reason(error: RayError) -> str:
    """Return why a task has no result."""
    if not isinstance(error, OutOfMemoryError):
        return DIED
    return (
        f"its process was ended {num_memory_losses() + 1} times, because its node ran out of "
        f"memory{_memory(str(error))}; run fewer tasks at a time or use nodes with more memory, then repeat the command"
    )


def _memory(message: str) -> str:
    """Return the memory in Ray's message in parentheses; empty where the message states none."""
    node = _NODE_MEMORY.search(message)
    ended = _TASK_MEMORY.findall(message)
    # Of several processes that were ended together, the message does not tell which one ran this task.
    own = [f"{ended[0]} GB by this task"] if len(ended) == 1 else []
    return f" ({', '.join([f'{node[1]} of {node[2]} GB in use', *own])})" if node else ""


def _damaged(job: Any, reason: str) -> InputError:
    return InputError(f"{job}: {reason}")


def _lost_work(what: object, reason: str) -> LostError:
    if reason != DIED:
        return LostError(f"{what}: {reason}")
    return LostError(
        f"{what}: lost with its process or node, {NODE_LOSSES + 1} times at most; check the nodes and their memory, "
        "then repeat the command"
    )


def _lost_measure(job: "MeasureJob", reason: str) -> LostError:
    return _lost_work(f"measuring {', '.join(job.widths)}", reason)


def measure_on_slot(job: "MeasureJob", slots: Slots) -> "Measured":
    """Run `measure_study` in the slot of a trial on some node.

    Raises:
        LostError: its process or node was lost.
    """
    from study.progress.trial_cost import measure_study

    (measured,) = RayPool(slots, lost=_lost_measure).map(measure_study, [job])
    return measured


class FinalWork:
    """The work of the final stage as Ray tasks (`study.final.case_jobs.Work`).

    Networks run in the slots of trials, everything else on single processors. A vote moves from the node that cast it
    to the node that post-processes it, without passing through the driver.
    """

    def __init__(self, slots: Slots, check: Callable[[], None]) -> None:
        """Start no task yet.

        Args:
            slots: slots of trials.
            check: called before each case; raises where another driver has taken over the folder.
        """
        self._check = check
        self._networks = RayPool(slots, partial(use_threads, slots.cpus), lost=_lost_work)
        self._processors = RayPool(processor_slots(), partial(use_threads, 1), lost=_lost_work)

    def vote(
        self, cases: Sequence[FinalCase], stitch: StitchConfig, then: Callable[[FinalCase, CompactVote], Result]
    ) -> Iterator[Result]:
        """Run `cast_vote` on each case in a slot, then `then` on a processor; yield the results in order."""
        results: Iterator[Result] = self._processors.gather((case, self._voted(case, stitch, then)) for case in cases)
        return _logged(results, f"{cases[0].finalist.name}, segmented", len(cases)) if cases else results

    def apply(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Run a function on each job on a processor; yield the results in order."""
        self._check()
        return _logged(self._processors.map(function, jobs), "post-processing, done", len(jobs))

    def _voted(self, case: FinalCase, stitch: StitchConfig, then: Callable[[FinalCase, CompactVote], Any]) -> Any:
        self._check()
        return self._processors.submit(then, case, self._networks.submit(cast_vote, case, stitch))


def _logged(results: Iterator[Result], what: str, total: int) -> Iterator[Result]:
    """Yield the results, and log how many there are: at intervals, and at the end if that took as long."""
    began = told = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if now - told > LOG_EVERY_S or (done == total and now - began > LOG_EVERY_S):
            told = now
            _log.info("final stage: %s: %d of %d cases", what, done, total)


def use_threads(number: int) -> None:
    """Compute with up to `number` threads in this process, and keep freed memory for the next job."""
    import torch

    keep_memory()
    torch.set_num_threads(min(num_threads(), number))
