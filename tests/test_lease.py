"""One writer at a time."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from renalnet.errors import BusyError
from renalnet.lease import STALE_S, Lease


def write_holder(path: Path, **changes: object) -> None:
    about = {"token": "other", "host": "elsewhere", "pid": 1, "since": "noon", "beat": time.time()}
    path.write_text(json.dumps(about | changes))


def test_a_lease_is_gone_after_the_block(tmp_path: Path) -> None:
    with Lease(str(tmp_path / "lease.json")) as lease:
        lease.check()
        assert json.loads((tmp_path / "lease.json").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    path = str(tmp_path / "lease.json")
    refused = pytest.raises(BusyError, match=f"process {os.getpid()} on .* is writing here; wait")
    with Lease(path), refused, Lease(path):
        pass
    with Lease(path):
        pass


def test_a_holder_that_was_killed_is_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    code = f"import os; from renalnet.lease import Lease; Lease({str(path)!r}).__enter__(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)
    assert path.exists()
    with Lease(str(path)):
        pass


def test_a_holder_elsewhere_is_waited_for_until_it_is_silent_for_long(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    write_holder(path)
    with pytest.raises(BusyError, match="process 1 on elsewhere since noon"), Lease(str(path)):
        pass
    write_holder(path, beat=time.time() - STALE_S - 1)
    with Lease(str(path), watch_s=0.1):
        pass


def test_a_holder_whose_clock_is_behind_is_alive_while_it_beats(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    write_holder(path, beat=time.time() - 2 * STALE_S)
    beat = threading.Timer(0.2, write_holder, (path,), {"beat": time.time() - 2 * STALE_S + 15})
    beat.start()
    with pytest.raises(BusyError, match="elsewhere"), Lease(str(path), watch_s=1.0):
        pass
    beat.join()


def test_a_lease_that_was_taken_over_is_noticed_and_left_to_its_taker(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with Lease(str(path)) as lease:
        write_holder(path)
        with pytest.raises(BusyError, match="elsewhere"):
            lease.check()
    assert json.loads(path.read_text())["token"] == "other"


def test_half_a_lease_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text('{"token": ')
    with Lease(str(tmp_path / "lease.json")):
        pass
