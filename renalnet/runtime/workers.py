"""Functions applied to jobs in other processes, so that a reader that crashes takes no one with it."""

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
from typing import Protocol, Self, TypeVar

from renalnet.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")


class JobPool(Protocol):
    """Whatever applies a function to jobs: processes here, or tasks on a cluster."""

    def map(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        died: Callable[[Job], Result] | None = None,
    ) -> Iterator[Result]:
        """Results in the order of the jobs, a few of them waiting at most.

        Args:
            function: of a module, so that other processes can import it.
            jobs: picklable; taken as they are needed.
            died: makes the result of a job whose process died; InputError naming the job without it.
        """
        ...


class Workers:
    """Spawned processes, at least one; a job that kills its process is found out and reported."""

    def __init__(self, count: int, start: Callable[[], None] | None = None) -> None:
        """`count` processes, each of which calls `start` first (a function of a module)."""
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
        died: Callable[[Job], Result] | None = None,
    ) -> Iterator[Result]:
        """See `JobPool.map`."""
        pending: deque[tuple[Job, Future[Result]]] = deque()
        for job in jobs:
            if len(pending) >= 2 * self._count:
                yield self._first(function, pending, died)
            pending.append((job, self._submit(function, job)))
        while pending:
            yield self._first(function, pending, died)

    def _first(
        self,
        function: Callable[[Job], Result],
        pending: deque[tuple[Job, Future[Result]]],
        died: Callable[[Job], Result] | None,
    ) -> Result:
        job, future = pending.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            result = self._alone(function, job, died)
        self._renew()
        again = [(other, ended if _is_good(ended) else self._submit(function, other)) for other, ended in pending]
        pending.clear()
        pending.extend(again)
        return result

    def _alone(self, function: Callable[[Job], Result], job: Job, died: Callable[[Job], Result] | None) -> Result:
        """The job once more by itself: when one process dies, all jobs under way fail, and only one is to blame."""
        with self._new_pool(1) as pool:
            try:
                return pool.submit(function, job).result()
            except BrokenProcessPool as error:
                if died:
                    return died(job)
                raise InputError(f"{job}: {DIED}") from error

    def _submit(self, function: Callable[[Job], Result], job: Job) -> Future[Result]:
        try:
            return self._pool.submit(function, job)
        except BrokenProcessPool:
            self._renew()
            return self._pool.submit(function, job)

    def _renew(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._new_pool(self._count)

    def _new_pool(self, count: int) -> ProcessPoolExecutor:
        # Spawned, not forked: a forked child inherits locks of the threads of the image and table libraries.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(self._start,))


def _is_good(future: Future[Result]) -> bool:
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


DIED = "the process that read it died; the file is damaged, or memory ran out: replace or remove it"


def _begin(start: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if start:
        start()


def _die_with_parent() -> None:
    """Executors' processes wait for ever for a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
