"""A study under faults of its machine: each ends it in one line, and the repeated command as an undisturbed one."""

import json
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Command, run, start
from support.process_tree import descendants, still_alive
from support.study_command import ONE_AT_A_TIME, command, outcome

from renalnet.data.store.reader import Store
from study.integrity.inspection import inspect
from study.records.results import Results

LOG_LINE = re.compile(r"\d\d:\d\d:\d\d |\[\*\*\* LOG ERROR #")
"""Lines of the study's own log, and of Ray's log, to which the limit of `limit_driver` applies, too."""


def epochs_of(results: Path) -> int:
    return sum(path.read_text().count("\n") for path in results.glob("trials/*/epochs.jsonl"))


def wait_for_epoch(results: Path, driver: Command) -> None:
    """Wait until a trial trains an epoch."""
    before = epochs_of(results)
    for _ in range(3000):
        assert driver.poll() is None, f"the study ended before the fault: {driver.communicate()}"
        if epochs_of(results) > before:
            return
        time.sleep(0.05)
    raise AssertionError("no epoch in 150 seconds")


def wait_for_measurement(results: Path, driver: Command) -> None:
    """Wait until the final stage has measured a case, so that tasks run."""
    for _ in range(3000):
        assert driver.poll() is None, f"the study ended before the fault: {driver.communicate()}"
        if any(results.glob("final/parts/*.parquet")):
            return
        time.sleep(0.05)
    raise AssertionError("no measurement in 150 seconds")


def pid_of(words: str, driver: Command) -> int:
    (pid,) = (pid for pid, name in descendants(driver.pid).items() if words in name.partition(" ")[0])
    return pid


def send(number: int) -> Callable[[Command], None]:
    return lambda driver: driver.send_signal(number)


def kill(words: str) -> Callable[[Command], None]:
    return lambda driver: subprocess.run(["kill", "-9", str(pid_of(words, driver))], check=True)


def limit_files(driver: Command) -> None:
    """Let the trials write no file above 1 KB: the kernel then refuses to write, as on a full disk."""
    for pid, words in descendants(driver.pid).items():
        if words.startswith("ray::") and "Agent" not in words:  # Ray's own processes are named so, too
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))


def limit_driver(driver: Command) -> None:
    """Let the driver write no file that is larger than its journal is now: it cannot tell Optuna the next epoch."""
    results = Path(driver.args[driver.args.index("--results") + 1])
    size = (results / "optuna.journal").stat().st_size
    resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


FAULTS: list[tuple[Callable[[Command], None], int, str]] = [
    (send(signal.SIGTERM), 143, "error: stopped by SIGTERM; what is finished is kept; repeat the command to go on"),
    (send(signal.SIGINT), 130, "error: stopped by SIGINT; what is finished is kept; repeat the command to go on"),
    (
        limit_files,
        2,
        r"error: fcn_ppm-000\d on \S+: what is finished is kept, but the trial cannot go on: \[Errno 27\] File too "
        r"large: '\S+/trials/fcn_ppm-000\d/\S+'; make room, or raise the quota, then repeat the command to go on",
    ),
    (
        limit_driver,
        2,
        r"error: \S+/r: what is finished is kept, but the study cannot go on: \[Errno 27\] File too large(: '\S+')?; "
        "make room, or raise the quota, then repeat the command to go on",
    ),
    (
        kill("gcs_server"),
        2,
        r"error: Ray on this machine was lost \(its GCS at \S+:\d+ does not answer: Connection refused\); what is "
        "finished is kept; repeat the command to go on",
    ),
    # The last one, in the final stage.
    (
        kill("raylet"),
        2,
        r"error: Ray on this machine was lost \(its raylet at \S+:\d+ does not answer: Connection refused\); what is "
        "finished is kept; repeat the command to go on",
    ),
]
"""Each fault, the exit code of the driver and the line on stderr. `test_fault_campaign.py` kills the driver itself."""


@pytest.mark.slow
def test_each_fault_ends_in_one_line_and_the_repeated_command_as_an_undisturbed_one(
    finished: Path, ball_store: Store, tiny_file: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r"
    arguments = command(ball_store, tiny_file, results, *ONE_AT_A_TIME)
    for number, (fault, code, line) in enumerate(FAULTS, start=1):
        driver = start(arguments)
        wait = wait_for_measurement if number == len(FAULTS) else wait_for_epoch
        wait(results, driver)
        processes = descendants(driver.pid)
        assert any("raylet" in words for words in processes.values())
        fault(driver)
        stdout, stderr = driver.communicate(120)
        said = [one for one in stderr.splitlines() if not LOG_LINE.match(one)]
        assert driver.returncode == code and stdout == "", (line, driver.returncode, stdout, stderr)
        assert len(said) == 1 and re.fullmatch(line, said[0]), (line, said)
        until = time.monotonic() + 60
        while (left := still_alive(processes)) and time.monotonic() < until:
            time.sleep(0.2)
        assert not left, (line, left)
        states = {json.loads(path.read_text())["state"] for path in results.glob("trials/*/trial.json")}
        assert "failed" not in states
    done = run(arguments)
    assert done.returncode == 0, done.stderr
    (trials, winner), (undisturbed, expected) = outcome(results), outcome(finished)
    assert [pair for pair in zip(trials, undisturbed, strict=True) if pair[0] != pair[1]] == []
    assert winner == expected
    assert inspect(Results(str(results)), is_full=True).faults == ()
