"""The readers of small result files: each damage is one line that names the file."""

from pathlib import Path

import numpy as np
import pytest

from renalnet.errors import ResultsError
from renalnet.runtime import storage
from study.final.quality import read_signs
from study.records import files
from study.records.files import read_lines, read_named_arrays, read_object
from study.records.results import Results
from study.records.trials import find_record, read_epochs


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty"),
        (b'{"a": ', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "a JSON list instead of an object"),
        (b"3", "a JSON int instead of an object"),
    ],
)
def test_what_is_no_object_is_refused(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError) as found:
        read_object(str(path))
    assert f"{path} is damaged ({what}" in str(found.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 10)
    (tmp_path / "x.json").write_text('{"a": 12345}')
    with pytest.raises(ResultsError, match="has 12 bytes, more than 10"):
        read_object(str(tmp_path / "x.json"))


@pytest.mark.parametrize("content", [b'{"a": 1}\n{"b', b"1\n2\n"])
def test_what_is_no_log_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ResultsError, match=r"x\.jsonl is damaged"):
        read_lines(str(tmp_path / "x.jsonl"))


def npy() -> bytes:
    from io import BytesIO

    stream = BytesIO()
    np.save(stream, np.arange(3))
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x05\x06" + bytes(18), npy(), "cut", "flipped"])
def test_what_is_no_archive_of_arrays_is_refused(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    storage.write_arrays(path, {"labels": np.arange(1000) % 7})
    whole = bytearray(path.read_bytes())
    if content == "flipped":
        whole[len(whole) // 2] ^= 255
    path.write_bytes(content if isinstance(content, bytes) else whole[:-40] if content == "cut" else whole)
    with pytest.raises(ResultsError, match=r"x\.npz"):
        read_named_arrays(str(path), ("labels",))


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    storage.write_arrays(tmp_path / "x.npz", {"mask": np.zeros(3)})
    with pytest.raises(ResultsError, match=r"x\.npz is damaged \(it holds no array labels\)"):
        read_named_arrays(str(tmp_path / "x.npz"), ("labels",))


def test_arrays_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_ARRAY_BYTES", 1000)
    storage.write_arrays(tmp_path / "x.npz", {"labels": np.zeros(1000)})
    with pytest.raises(ResultsError, match="bytes of arrays"):
        read_named_arrays(str(tmp_path / "x.npz"), ("labels",))


@pytest.mark.parametrize("content", ["{}", '{"trial": "0", "network": "fcn_ppm"}', '{"epoch": 1}', "[]"])
def test_what_is_no_record_is_refused(content: str, tmp_path: Path) -> None:
    results = Results(str(tmp_path))
    storage.write_bytes(results.trial_record_path("fcn_ppm-0000"), content.encode())
    with pytest.raises(ResultsError, match=r"fcn_ppm-0000/trial\.json is damaged"):
        find_record(results, "fcn_ppm-0000")


EPOCH = '{"epoch": %d, "loss": %s, "dice_tumor": 0.5, "objective": 0.5, "learning_rate": 0.1, "seconds": 1.0}\n'


@pytest.mark.parametrize("content", ["{}\n", EPOCH % (2, "1.0"), EPOCH % (1, '"one"'), EPOCH % (1, "1.0") + "{}\n"])
def test_what_is_no_epoch_is_refused(content: str, tmp_path: Path) -> None:
    results = Results(str(tmp_path))
    storage.write_bytes(storage.join(results.trial_folder("a-0000"), "epochs.jsonl"), content.encode())
    with pytest.raises(ResultsError, match=r"a-0000/epochs\.jsonl is damaged"):
        read_epochs(results, "a-0000")


def test_other_signs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"kept": 1.0}')
    with pytest.raises(ResultsError, match="not the signs of a mask"):
        read_signs(str(tmp_path / "x.json"))
