"""Tests of a node's shared copy of decoded cases."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.label_values import KIDNEY, TUMOR

from renalnet.data.batches.decoded_cases import DecodedCase, StoreSource
from renalnet.data.batches.node_copy import NodeCopy, copy_bytes, find_room
from renalnet.data.batches.node_folder import NodeFolder, private_home, remove_leftovers
from renalnet.data.store.reader import Store

ROOT = Path(__file__).parents[3]
HANGING = """
import sys
from pathlib import Path
from renalnet.data.batches.node_copy import NodeCopy
from renalnet.data.batches.node_folder import NodeFolder
from renalnet.data.store.reader import open_store

class Hanging:
    def read(self, number):
        print("decoding", flush=True)
        sys.stdin.read()
    def close(self): pass

store = open_store(sys.argv[1])
shapes = store.index.shapes("train")
NodeCopy(NodeFolder(Path(sys.argv[2])), Hanging(), shapes, -(-shapes[:, 0] // 8), 2).read(0)
"""


class Unused:
    """Source for a copy in which all cases are decoded already."""

    def read(self, number: int) -> DecodedCase:
        raise AssertionError(f"case {number} was decoded again")

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    found = private_home(tmp_path)
    assert found is not None
    return found


def source(store: Store) -> StoreSource:
    return StoreSource(store, tuple(store.cases("train")))


def copy(store: Store, home: Path, decoder: StoreSource | Unused | None = None) -> NodeCopy:
    shapes = store.index.shapes("train")
    return NodeCopy(NodeFolder(home / "copy"), decoder or source(store), shapes, -(-shapes[:, 0] // 8), 2)


def equal(one: DecodedCase, other: DecodedCase) -> bool:
    pairs = [(one.image, other.image), (one.label, other.label), (one.locations.counts, other.locations.counts)]
    pairs += [(one.locations.starts, other.locations.starts)]
    for label in (KIDNEY, TUMOR):
        pairs += zip(one.locations.anchors(label), other.locations.anchors(label), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_copy_has_the_cases_of_the_store(ball_store: Store, home: Path) -> None:
    ours = copy(ball_store, home)
    for number in (2, 0, 3, 1):
        assert equal(ours.read(number), source(ball_store).read(number))
    assert not ours.read(0).image.flags.writeable
    ours.close()


def test_the_second_user_decodes_nothing(ball_store: Store, home: Path) -> None:
    first = copy(ball_store, home)
    read = [first.read(number) for number in range(4)]
    second = copy(ball_store, home, Unused())
    assert all(equal(second.read(number), read[number]) for number in range(4))
    first.close(), second.close()


def test_the_last_user_removes_the_copy_and_read_cases_stay_valid(ball_store: Store, home: Path) -> None:
    first = copy(ball_store, home)
    second = copy(ball_store, home)
    case = first.read(0)
    first.close()
    assert (home / "copy").is_dir()
    second.close()
    assert list(home.iterdir()) == []
    assert equal(case, source(ball_store).read(0))


def test_a_copy_that_was_not_closed_is_removed_with_its_object(ball_store: Store, home: Path) -> None:
    ours = copy(ball_store, home)
    ours.read(0)
    del ours
    assert list(home.iterdir()) == []


def test_concurrent_users_never_lose_the_folder(home: Path) -> None:
    def join_and_leave(_: int) -> bool:
        folder = NodeFolder(home / "busy")
        (folder.path / "something").touch()
        found = folder.path.is_dir()
        folder.close()
        return found

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(join_and_leave, range(400)))
    assert list(home.iterdir()) == []


def test_a_partial_case_of_a_killed_process_is_decoded_again(ball_store: Store, home: Path) -> None:
    command = [sys.executable, "-c", HANGING, ball_store.path, str(home / "copy")]
    killed = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert killed.stdout and killed.stdout.readline() == "decoding\n"
    ours = copy(ball_store, home)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert equal(ours.read(0), source(ball_store).read(0))
    ours.close()
    assert list(home.iterdir()) == []


def test_leftovers_of_killed_processes_are_removed(ball_store: Store, home: Path) -> None:
    (home / "left").mkdir()
    (home / "left" / "voxels").write_bytes(b"x" * 100)
    (home / "left.lock").touch()
    ours = copy(ball_store, home)
    remove_leftovers(home)
    assert sorted(path.name for path in home.iterdir()) == ["copy", "copy.lock"]
    ours.close()


def test_leftovers_are_not_used(ball_store: Store, home: Path) -> None:
    (home / "copy").mkdir()
    (home / "copy.lock").touch()
    (home / "copy" / "000000").write_bytes(b"+")
    ours = copy(ball_store, home)
    assert equal(ours.read(0), source(ball_store).read(0))
    ours.close()


def test_a_folder_that_others_can_enter_is_not_used(tmp_path: Path) -> None:
    home = private_home(tmp_path)
    assert home is not None and home.stat().st_mode & 0o777 == 0o700
    home.chmod(0o755)
    assert private_home(tmp_path) is None
    home.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    home.symlink_to(tmp_path / "elsewhere")
    assert private_home(tmp_path) is None


def test_there_is_no_path_without_room() -> None:
    assert find_room("nothing-so-large", 2**60) is None


def test_cases_without_room_are_decoded_by_each_process(
    ball_store: Store, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ours = copy(ball_store, home)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert all(equal(ours.read(number), source(ball_store).read(number)) for number in (0, 1, 0))
    assert caplog.text.count("is full") == 1
    ours.close()


def test_a_case_takes_whole_pages() -> None:
    shapes = np.array([[8, 10, 10], [200, 150, 150]])
    num_slabs = np.array([1, 25])
    small, large = copy_bytes(shapes, num_slabs, 2).tolist()
    assert small == 4096
    assert large == 3298 * 4096  # 13 500 000 bytes of voxels and 25 slabs of 240 bytes, rounded up
