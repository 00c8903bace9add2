"""Joining Ray, and the work that runs as Ray tasks, a patient a task: preparing scans, the final stage."""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import ray
from ray.exceptions import AuthenticationError, RayError, RayTaskError

from renalnet.config import StitchConfig
from renalnet.errors import ClusterError, ConfigError, InputError, LostError, RenalnetError
from renalnet.runtime.machine import keep_memory
from renalnet.runtime.workers import DIED, Job, Result
from study.config.sections import ResourceConfig, Slots
from study.final.case_jobs import Ballot, FinalCase, cast_vote
from study.progress.forecast import Cluster
from study.progress.trial_cost import Measured, MeasureJob, measure_study

NODE_LOSSES: Final = 2
"""Times that a task whose node or process is lost is tried again."""
KNOCK_S: Final = 20.0
JOB_MARK: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this for the command of a submitted job."""


def inside_job() -> bool:
    """Whether this process is the command of `ray job submit`."""
    return JOB_MARK in os.environ


@contextmanager
def connected() -> Iterator[str]:
    """Join the cluster of RAY_ADDRESS, else start a Ray on this machine that ends with the block.

    Yields where Ray's dashboard is, `http://127.0.0.1:8265`; nothing where there is none.

    Raises:
        ClusterError: no cluster is at RAY_ADDRESS, or it refuses the token.
    """
    address = os.environ.get("RAY_ADDRESS")
    if address:
        context = _join(address)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # on loopback only, and gone with this command
        context = ray.init("local", include_dashboard=False, logging_level="WARNING", log_to_driver=False)
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def _join(address: str) -> Any:
    try:
        _knock(address)
        return ray.init(address, logging_level="WARNING", log_to_driver=False)
    except AuthenticationError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address} refuses the token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's own"
        ) from error
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: no cluster joined ({str(error).strip().partition(chr(10))[0]}); name HOST:PORT of "
            "its head, with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN where it asks for one; unset it for this machine"
        ) from error


def _knock(address: str) -> None:
    """Connect once to HOST:PORT: Ray itself tries for minutes, then ends the process. Raises OSError, ValueError."""
    host, _, port = address.rpartition(":")
    if host and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def find_slots(config: ResourceConfig) -> Slots:
    """One GPU a trial (or the configured fraction) where the cluster has GPUs, processor slots where it has none.

    With `scale_to` at least so many, on GPUs though none is there yet: one that starts nodes on demand then does.

    Raises:
        ConfigError: no node is large enough for a trial.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = config.gpus_per_trial if config.scale_to or any(node.get("GPU") for node in nodes) else 0.0
    num_slots = max(sum(_slots_of(node, config.cpus_per_trial, gpus) for node in nodes), config.scale_to)
    if not num_slots:
        raise ConfigError(
            f"no node has the {config.cpus_per_trial} processors and {gpus:g} GPUs of a trial; lower "
            "resources.cpus_per_trial or resources.gpus_per_trial; name resources.scale_to where nodes start on demand"
        )
    return Slots(config.cpus_per_trial, gpus, min(num_slots, config.max_concurrent or num_slots))


def find_cluster() -> Cluster:
    """The nodes that are there now, and what they hold."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    num_cpus, num_gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    return Cluster(len(nodes), num_cpus, num_gpus)


def measure_on_slot(job: MeasureJob, slots: Slots) -> Measured:
    """`measure_study` as a Ray task in a trial's slot, on some node."""
    (measured,) = RayPool(slots, lost=_lost_measure).map(measure_study, [job])
    return measured


def _slots_of(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0)) // cpus
    return min(by_cpu, int(node.get("GPU", 0) / gpus + 1e-9)) if gpus else by_cpu


def check_address() -> None:
    """Refuse a RAY_ADDRESS of the job interface before anything is done. Raises ConfigError."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("http"):
        raise ConfigError(f"RAY_ADDRESS={address} takes jobs: use `ray job submit`, or unset it to run on this machine")


class RayPool:
    """A `renalnet.runtime.workers.JobPool` of Ray tasks: the same functions, on every node of the cluster."""

    def __init__(
        self,
        slots: Slots,
        start: Callable[[], None] | None = None,
        lost: Callable[[Any], RenalnetError] | None = None,
    ) -> None:
        """A job occupies a slot; twice as many as there are slots wait at most. `start` is called before each job.

        `lost` is the error of a job whose processes died, without which its file is to blame.
        """
        self._slots, self._start, self._lost = slots, start, lost or _damaged
        self._task = _apply.options(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=NODE_LOSSES)

    def map(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        died: Callable[[Job], Result] | None = None,
    ) -> Iterator[Result]:
        """See `JobPool.map`."""
        return self.gather(((job, self.submit(function, job)) for job in jobs), died)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of the function; arguments may be results of others that are not there yet."""
        return self._task.remote(function, self._start, *arguments)

    def gather(self, tasks: Iterable[tuple[Job, Any]], died: Callable[[Job], Result] | None = None) -> Iterator[Result]:
        """Results of tasks, in order; few of them are submitted ahead."""
        pending: deque[tuple[Job, Any]] = deque()
        for task in tasks:
            pending.append(task)
            if len(pending) >= 2 * self._slots.num_slots:
                yield _result(*pending.popleft(), died or self._raise_lost)
        while pending:
            yield _result(*pending.popleft(), died or self._raise_lost)

    def _raise_lost(self, job: Any) -> NoReturn:
        raise self._lost(job)


@ray.remote
def _apply(function: Callable[..., Result], start: Callable[[], None] | None, *arguments: Any) -> Result:
    if start:
        start()
    return function(*arguments)


def _result(job: Job, task: Any, died: Callable[[Job], Result]) -> Result:
    try:
        value: Result = ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, RenalnetError | OSError):
            raise error.cause from None
        if isinstance(error.cause, RayError):  # the task that this one waited for is lost
            return died(job)
        raise
    except RayError:  # its process, its node or what it gave back is lost
        return died(job)
    return value


def _damaged(job: Any) -> InputError:
    return InputError(f"{job}: {DIED}")


def _lost_measure(job: MeasureJob) -> LostError:
    return _lost_work(f"measuring {', '.join(job.widths)}")


def _lost_work(what: object) -> LostError:
    return LostError(
        f"{what}: lost with its process or node, {NODE_LOSSES + 1} times at most; look at the nodes and their memory, "
        "then repeat the command"
    )


class FinalWork:
    """The work of the final stage as Ray tasks (`study.final.case_jobs.Work`).

    Networks run in the slots of trials, everything else on processors. A vote moves from the node that cast it to the
    node that post-processes it, without passing through the driver.
    """

    def __init__(self, slots: Slots, check: Callable[[], None]) -> None:
        """`check` raises where another driver has taken over; it is asked before each patient."""
        self._check = check
        self._networks = RayPool(slots, partial(use_threads, slots.cpus), lost=_lost_work)
        self._processors = RayPool(prepare_slots(), partial(use_threads, 1), lost=_lost_work)

    def vote(
        self, patients: Sequence[FinalCase], stitch: StitchConfig, then: Callable[[FinalCase, Ballot], Result]
    ) -> Iterator[Result]:
        """See `Work.vote`."""
        return self._processors.gather((patient, self._voted(patient, stitch, then)) for patient in patients)

    def apply(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `Work.apply`."""
        self._check()
        return self._processors.map(function, jobs)

    def _voted(self, patient: FinalCase, stitch: StitchConfig, then: Callable[[FinalCase, Ballot], Any]) -> Any:
        self._check()
        return self._processors.submit(then, patient, self._networks.submit(cast_vote, patient, stitch))


def refuse_relative(path: str) -> None:
    """Raises ConfigError where a job that Ray runs names a relative path: its folder is deleted behind it."""
    if inside_job() and "://" not in path and not Path(path).is_absolute():
        raise ConfigError(f"{path}: inside a submitted job paths must be absolute; the job's own folder is deleted")


def use_threads(number: int) -> None:
    """Compute with so many threads in this process, and keep freed memory for the next job."""
    import torch

    keep_memory()
    torch.set_num_threads(number)


def prepare_slots() -> Slots:
    """A processor of any node for a patient."""
    return Slots(1, 0.0, max(int(ray.cluster_resources().get("CPU", 1)), 1))
