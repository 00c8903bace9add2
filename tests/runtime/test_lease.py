"""Leases: one writer per folder at a time, also when holders are killed, silent or on other machines."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from renalnet.errors import BusyError
from renalnet.runtime import exclusive, storage
from renalnet.runtime.lease import Lease
from renalnet.runtime.process import start_of

KILLED_HOLDER = """
import os
from renalnet.runtime.lease import Lease
Lease({path!r}).__enter__()
os.kill(os.getpid(), 9)
"""


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


def test_a_killed_holder_is_taken_over_from(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    code = KILLED_HOLDER.format(path=str(path))
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert path.exists()
    with Lease(str(path)):
        pass


def test_a_silent_holder_elsewhere_is_taken_over_from_whatever_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    for ahead_s in (-3600, 0, 3600):
        write_holder(path, beat=time.time() + ahead_s)
        with Lease(str(path), silent_s=0.1) as lease:
            lease.check()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ahead_s", [-3600, 0, 3600])
def test_a_holder_elsewhere_that_beats_is_named_whatever_its_clock(tmp_path: Path, ahead_s: float) -> None:
    path = tmp_path / "lease.json"
    write_holder(path, beat=time.time() + ahead_s)
    beat = threading.Timer(0.2, write_holder, (path,), {"beat": time.time() + ahead_s + 15})
    beat.start()
    with pytest.raises(BusyError, match="process 1 on elsewhere since noon"), Lease(str(path), silent_s=5.0):
        pass
    beat.join()


def test_a_holder_elsewhere_that_gives_the_lease_back_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    write_holder(path)
    end = threading.Timer(0.2, path.unlink)
    end.start()
    with Lease(str(path), silent_s=5.0):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    end.join()
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_another_container_is_not_looked_for_in_this_one(tmp_path: Path) -> None:
    """A process id of another container must not be compared with the processes of this one."""
    path = tmp_path / "lease.json"
    with Lease(str(path)):
        mine = json.loads(path.read_text())
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    path.write_text(json.dumps({**mine, "pid": int(gone.stdout), "pid_space": "pid:[1]", "beat": time.time()}))
    beat = threading.Timer(0.2, write_holder, (path,))
    beat.start()
    with pytest.raises(BusyError), Lease(str(path), silent_s=5.0):
        pass
    beat.join()


def test_a_holder_that_wakes_up_after_a_takeover_gets_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "lease.json")
    with Lease(path) as first:
        known = json.loads((tmp_path / "lease.json").read_text())
        (tmp_path / "lease.json").write_text(json.dumps({**known, "host": "elsewhere"}))
        with Lease(path, silent_s=0.1) as second:
            second.check()
            with pytest.raises(BusyError, match=f"process {os.getpid()} on {known['host']}"):
                first.check()
    assert list(tmp_path.iterdir()) == []


def test_drivers_that_were_killed_one_after_the_other_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    code = KILLED_HOLDER.format(path=str(path))
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with Lease(str(path)):
        assert len(list(tmp_path.iterdir())) == 3
    assert list(tmp_path.iterdir()) == []


def race(path: str, num_racers: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("lease_racers.py")), path, str(num_racers)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.split()


def test_of_a_hundred_processes_one_holds_the_lease(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    assert sorted(race(str(path), 100)) == ["busy"] * 99 + ["held"]
    assert list(tmp_path.iterdir()) == []


def test_of_a_hundred_processes_one_takes_over_from_a_dead_holder(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    code = KILLED_HOLDER.format(path=str(path))
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert sorted(race(str(path), 100)) == ["busy"] * 99 + ["held"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_on_an_object_store_one_of_many_holds_the_lease(s3_uri: str) -> None:
    path = storage.join(s3_uri, "lease.json")
    assert sorted(race(path, 6)) == ["busy"] * 5 + ["held"]
    assert storage.list_names(s3_uri) == []


def test_a_file_is_created_once(tmp_path: Path, s3_uri: str) -> None:
    for path in (str(tmp_path / "folder" / "x"), f"file://{tmp_path}/y", storage.join(s3_uri, "x")):
        assert exclusive.create(path, b"first") == "created"
        assert exclusive.create(path, b"second") == "exists"
        assert storage.read_bytes(path) == b"first"


@pytest.mark.slow
def test_without_boto3_an_object_store_is_written_without_a_guarantee(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive, "find_spec", lambda _: None)
    path = storage.join(s3_uri, "lease.json")
    assert exclusive.create(path, b"first") == "unsure"
    assert exclusive.create(path, b"second") == "exists"
    storage.delete(path)
    with Lease(path), pytest.raises(BusyError, match="is writing here"), Lease(path):
        pass


def test_a_lease_in_a_missing_bucket_is_an_error(s3_uri: str) -> None:
    with pytest.raises(OSError, match="bucket does not exist"), Lease(s3_uri.replace("//scans/", "//nosuch/")):
        pass


def test_a_lease_that_was_taken_over_is_noticed_and_left_to_its_taker(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with Lease(str(path)) as lease:
        write_holder(path)
        with pytest.raises(BusyError, match="elsewhere"):
            lease.check()
    assert json.loads(path.read_text())["token"] == "other"


def test_an_incomplete_lease_belongs_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text('{"token": ')
    with Lease(str(tmp_path / "lease.json")):
        pass


def lease_of(path: Path, **changes: object) -> None:
    """Write the lease of this process with other values; a value None leaves a field out."""
    with Lease(str(path)):
        own = json.loads(path.read_text())
    values = {**own, "token": "a" * 32, **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def test_a_holder_with_the_own_id_before_a_restart_is_gone(tmp_path: Path) -> None:
    """A container that starts again has the same host name and often the same process ids."""
    for number, started in enumerate(("another-boot/7", None)):
        path = tmp_path / f"{number}.json"
        lease_of(path, started=started)
        began = time.monotonic()
        with Lease(str(path)):
            assert time.monotonic() - began < 1


def test_a_holder_that_is_a_zombie_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        lease_of(path, pid=child.pid, started=start_of(child.pid))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        began = time.monotonic()
        with Lease(str(path)):
            assert time.monotonic() - began < 1


def test_a_beat_in_the_future_is_watched(tmp_path: Path) -> None:
    """The clock was set back, and the id of the holder was given to another process."""
    path = tmp_path / "lease.json"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        lease_of(path, pid=child.pid, started=None, beat=time.time() + 86_400)
        with Lease(str(path), silent_s=1):
            pass
        child.kill()
