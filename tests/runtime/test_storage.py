"""Files on local paths, URIs and an object store."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from renalnet.errors import BusyError, InputError
from renalnet.runtime import storage
from renalnet.runtime.lease import Lease


def test_write_is_atomic_and_leaves_no_other_file(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "a" / "b.bin", b"12")
    storage.write_bytes(tmp_path / "a" / "b.bin", b"3")
    assert storage.read_bytes(tmp_path / "a" / "b.bin") == b"3"
    assert storage.list_names(tmp_path / "a") == ["b.bin"]


def test_file_uri_is_the_same_file(tmp_path: Path) -> None:
    storage.write_json(f"file://{tmp_path}/v.json", {"a": [1, 2]})
    assert storage.read_json(tmp_path / "v.json") == {"a": [1, 2]}


def test_unknown_scheme() -> None:
    with pytest.raises(InputError, match="use a local path or a"):
        storage.resolve("nosuch://bucket/key")


def test_absent_folder_is_empty(tmp_path: Path) -> None:
    assert storage.list_names(tmp_path / "none") == []
    assert not storage.exists(tmp_path / "none")


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"v\.json is not readable JSON"):
        storage.read_json(tmp_path / "v.json")


def test_arrays_round_trip(tmp_path: Path) -> None:
    storage.write_arrays(tmp_path / "v.npz", {"a": np.arange(6).reshape(2, 3)})
    assert storage.read_arrays(tmp_path / "v.npz")["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_delete_twice(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "x", b"")
    storage.delete(tmp_path / "x")
    storage.delete(tmp_path / "x")
    assert not storage.exists(tmp_path / "x")


def test_the_same_calls_work_on_an_object_store(s3_uri: str) -> None:
    path = storage.join(s3_uri, "folder", "file.json")
    assert path.startswith("s3://scans/") and path.split("?")[0].endswith("/folder/file.json")
    assert not storage.exists(path) and storage.list_names(s3_uri) == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(path)
    storage.write_json(path, {"a": 1})
    assert storage.read_json(path) == {"a": 1}
    assert storage.list_sizes(storage.join(s3_uri, "folder")) == {"file.json": len(storage.read_bytes(path))}
    storage.delete(path)
    assert not storage.exists(path)


def test_two_holders_of_a_lease_on_an_object_store(s3_uri: str) -> None:
    path = storage.join(s3_uri, "lease.json")
    with Lease(path), pytest.raises(BusyError, match="is writing here"), Lease(path):
        pass
    assert not storage.exists(path)


def test_a_disk_that_cannot_be_written_is_named_with_its_remedy(tmp_path: Path) -> None:
    """The limit of the kernel on the size of files stands for a full disk; it binds other processes only."""
    script = (
        "import resource, sys\nfrom renalnet.runtime import storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "storage.write_bytes(sys.argv[1], b'x' * 1024)\n"
        "try:\n    storage.write_bytes(sys.argv[1], b'y' * 1025)\n"
        "except OSError as error:\n    print(storage.disk_fault(error))"
    )
    target = tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=True)
    fault = (
        r"\[Errno 27\] File too large: '\S+/\.file\.[0-9a-f]{8}\.tmp'; make room, or raise the quota, then repeat .*\n"
    )
    assert re.fullmatch(fault, done.stdout), done.stdout
    assert target.read_bytes() == b"x" * 1024 and list(tmp_path.iterdir()) == [target]
    assert storage.disk_fault(PermissionError(errno.EACCES, "denied")) == ""


def test_a_new_folder_appears_with_its_whole_content(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    with storage.new_folder(target) as staged:
        (staged / "file").write_text("whole")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["folder"]
    assert (target / "file").read_text() == "whole"


def test_a_new_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), storage.new_folder(tmp_path / "folder") as staged:
        (staged / "file").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("old")
    with (
        pytest.raises(InputError, match="taken: exists, and is not overwritten"),
        storage.new_folder(tmp_path / "taken"),
    ):
        raise AssertionError("the block is not entered")
    with pytest.raises(InputError, match="folder: exists"), storage.new_folder(tmp_path / "folder") as staged:
        (staged / "file").write_text("ours")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_text("theirs")
    assert (tmp_path / "folder" / "file").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "taken"]
