"""Work in other processes: order, errors, and jobs whose process dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from renalnet.errors import InputError
from renalnet.runtime.workers import Workers


def double(job: int) -> int:
    return 2 * job


def crash_on_three(job: int) -> int:
    if job == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return job


def refuse(job: int) -> int:
    raise InputError(f"{job} is refused")


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_order(count: int) -> None:
    with Workers(count) as pool:
        assert list(pool.map(double, range(10))) == [2 * job for job in range(10)]


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []
    with Workers(1) as pool:
        results = pool.map(double, (taken.append(job) or job for job in range(100)))
        next(results)
    assert len(taken) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_only_the_job_that_kills_its_process_is_lost(count: int) -> None:
    with Workers(count) as pool:
        assert list(pool.map(crash_on_three, range(8), died=lambda job, reason: -job)) == [0, 1, 2, -3, 4, 5, 6, 7]
        assert list(pool.map(double, [1])) == [2]


def test_a_process_that_dies_is_an_error_naming_its_job() -> None:
    with Workers(1) as pool, pytest.raises(InputError, match="3: the process that read it died"):
        list(pool.map(crash_on_three, [3]))


def test_errors_travel() -> None:
    with Workers(1) as pool, pytest.raises(InputError, match="5 is refused"):
        list(pool.map(refuse, [5]))


@pytest.mark.slow
def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = "import os, sys; sys.path.insert(0, {root!r})\n" + (
        "from functools import partial\n"
        "from renalnet.runtime.workers import Workers\n"
        "from tests.runtime.test_workers import report_pid\n"
        "if __name__ == '__main__':\n"
        "    with Workers(1) as pool:\n"
        "        for _ in pool.map(partial(report_pid, {out!r}), range(10**6)): pass\n"
    )
    out = tmp_path / "pid"
    main = tmp_path / "main.py"
    main.write_text(script.format(root=str(Path(__file__).parents[2]), out=str(out)))
    parent = subprocess.Popen([sys.executable, str(main)])
    wait_until(out.exists)
    worker = int(out.read_text())
    parent.kill()
    parent.wait()
    wait_until(lambda: not Path(f"/proc/{worker}").exists())


def report_pid(out: str, job: int) -> None:
    if job == 0:
        Path(out + ".new").write_text(str(os.getpid()))
        Path(out + ".new").rename(out)
    time.sleep(0.05)


def wait_until(condition: object) -> None:
    for _ in range(600):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError("the condition was not true within a minute")
