"""Functions applied to jobs in other processes, so that a job that crashes its process does not end the program."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from renalnet.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")
DIED: Final = "the process that read it died, because the file is damaged or memory ran out; replace or remove the file"
"""Reason why a job has no result, where its process died."""


class JobPool(Protocol):
    """Protocol of a pool that applies a function to jobs: processes on this machine, or tasks on a cluster."""

    def map(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        died: Callable[[Job, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield the results in the order of the jobs. Only a few results wait to be taken.

        Args:
            function: a function of a module, which other processes can import.
            jobs: picklable values, each taken when it is needed.
            died: makes the result of a job whose process died, from the job and the reason. Without it, such a job
                raises.

        Raises:
            InputError: the process of a job died, and `died` is not given. The message names the job.
        """
        ...


class Workers:
    """Pool of spawned processes, at least one. A job that kills its process is identified and reported."""

    def __init__(self, count: int, start: Callable[[], None] | None = None) -> None:
        """Start `count` processes. Each calls `start`, a function of a module, before its first job."""
        self._count = max(count, 1)
        self._start = start
        self._pool = self._new_pool(self._count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        died: Callable[[Job, str], Result] | None = None,
    ) -> Iterator[Result]:
        """See `JobPool.map`."""
        pending: deque[tuple[Job, Future[Result]]] = deque()
        for job in jobs:
            if len(pending) >= 2 * self._count:  # each process has its next job ready, and memory stays bounded
                yield self._first(function, pending, died)
            pending.append((job, self._submit(function, job)))
        while pending:
            yield self._first(function, pending, died)

    def _first(
        self,
        function: Callable[[Job], Result],
        pending: deque[tuple[Job, Future[Result]]],
        died: Callable[[Job, str], Result] | None,
    ) -> Result:
        job, future = pending.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            result = self._alone(function, job, died)
        self._renew()
        # The death of one process breaks the whole pool: jobs without a result are submitted to the new one.
        again = [(other, ended if _is_good(ended) else self._submit(function, other)) for other, ended in pending]
        pending.clear()
        pending.extend(again)
        return result

    def _alone(self, function: Callable[[Job], Result], job: Job, died: Callable[[Job, str], Result] | None) -> Result:
        """Run a job again in a process of its own.

        When a process dies, all running jobs fail. Only the one that fails again here caused it.
        """
        with self._new_pool(1) as pool:
            try:
                return pool.submit(function, job).result()
            except BrokenProcessPool as error:
                if died:
                    return died(job, DIED)
                raise InputError(f"{job}: {DIED}") from error

    def _submit(self, function: Callable[[Job], Result], job: Job) -> Future[Result]:
        try:
            return self._pool.submit(function, job)
        except BrokenProcessPool:  # it broke after the last result was taken, while the caller worked
            self._renew()
            return self._pool.submit(function, job)

    def _renew(self) -> None:
        # Not waited for, because a broken pool ends its other processes by itself.
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._new_pool(self._count)

    def _new_pool(self, count: int) -> ProcessPoolExecutor:
        # Spawned, not forked: a forked child would inherit locks that threads of the image and table libraries hold.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(self._start,))


def _is_good(future: Future[Result]) -> bool:
    """Return whether a job has ended by itself, with a result or with an error of its own."""
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


def _begin(start: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles an interrupt
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if start:
        start()


def _die_with_parent() -> None:
    """End this process when its parent ends. Otherwise it would wait for ever for jobs of a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # sys.exit would end this thread only
