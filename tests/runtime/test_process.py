"""Processes are told from later ones that have the same id."""

import os
import signal
import subprocess
import sys

import pytest

from renalnet.runtime import process


def test_a_process_has_one_start() -> None:
    own = process.start_of(os.getpid())
    assert own and own == process.start_of(os.getpid())
    with subprocess.Popen(["sleep", "60"]) as other:
        assert process.start_of(other.pid) not in ("", own)
        other.kill()


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        started = process.start_of(child.pid)
        assert process.is_alive(child.pid, started) and process.is_alive(child.pid, None)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked for its exit code
        assert not process.is_alive(child.pid, started) and not process.is_alive(child.pid, None)
        assert not process.is_alive(child.pid, "")


def test_another_process_of_the_same_id_is_not_it() -> None:
    assert process.is_alive(os.getpid(), process.start_of(os.getpid()))
    assert not process.is_alive(os.getpid(), "another-boot/7")
    assert not process.is_alive(os.getpid(), None)


@pytest.mark.parametrize("pid", [0, -1])
def test_ids_below_one_are_no_process(pid: int) -> None:
    assert not process.is_alive(pid, None) and process.start_of(pid) == ""


def test_a_name_with_parentheses_and_spaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("p") / "a) S 1 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert process.is_alive(child.pid, process.start_of(child.pid))
        child.kill()


def test_descendants_are_children_and_theirs() -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '60']); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == "ready\n"
        (sleeper,) = process.descendants(child.pid)
        assert {child.pid, sleeper} <= process.descendants(os.getpid())
        assert process.descendants(sleeper) == set()
        os.kill(sleeper, signal.SIGKILL)
        child.stdin.close()
