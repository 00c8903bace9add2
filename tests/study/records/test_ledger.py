"""The ledger of a results folder, on a disk and on an object store."""

import hashlib
import json
from pathlib import Path

import pytest

from renalnet.errors import ResultsError
from renalnet.runtime import storage
from study.records.ledger import LEDGER, Entry, Ledger, LedgerContent
from study.records.results import Results


def written(folder: str) -> Ledger:
    """Return the ledger of a folder with two files of a trial and a journal that is being written."""
    files = {"trials/a-0000/trial.json": b"{}", "trials/a-0000/epochs.jsonl": b"one\n", "optuna.journal": b"1\n2\n3"}
    for name, content in files.items():
        storage.write_bytes(storage.join(folder, name), content)
    return Ledger(Results(folder))


def test_files_enter_and_leave(tmp_path: Path) -> None:
    ledger = written(str(tmp_path))
    assert ledger.find() is None
    ledger.add_trial("a-0000")
    content = ledger.find()
    assert content is not None
    assert content.files == {
        "trials/a-0000/trial.json": Entry(2, hashlib.sha256(b"{}").hexdigest()),
        "trials/a-0000/epochs.jsonl": Entry(4, hashlib.sha256(b"one\n").hexdigest()),
    }
    ledger.drop_trial("a-0000")
    assert ledger.find() == LedgerContent()


def test_it_is_kept_on_an_object_store(s3_uri: str) -> None:
    ledger = written(s3_uri)
    ledger.add_new_trials(["a-0000"])
    ledger.keep_copies(["trials/a-0000/trial.json"])
    content = ledger.find()
    assert content is not None and len(content.files) == 2
    assert content.copies == {"trials/a-0000/trial.json": "{}"}


def test_of_the_journal_the_whole_lines_count(tmp_path: Path) -> None:
    ledger = written(str(tmp_path))
    ledger.add(["optuna.journal"])
    content = ledger.find()
    assert content is not None and content.files["optuna.journal"] == Entry.of(b"1\n2\n")


def test_a_file_that_it_knows_is_not_entered_again(tmp_path: Path) -> None:
    ledger = written(str(tmp_path))
    ledger.add(["trials/a-0000/trial.json"])
    before = ledger.find()
    (tmp_path / "trials" / "a-0000" / "trial.json").write_text("[]")
    ledger.add_new(["trials/a-0000/trial.json"])
    assert ledger.find() == before


def test_a_file_that_is_missing_is_not_entered(tmp_path: Path) -> None:
    ledger = written(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        ledger.add(["trials/a-0000/trial.json", "nothing"])
    assert ledger.find() is None


@pytest.mark.parametrize("change", ["cut", "list", "entry", "version"])
def test_a_damaged_ledger_is_refused(change: str, tmp_path: Path) -> None:
    ledger = written(str(tmp_path))
    ledger.add_trial("a-0000")
    path = tmp_path / LEDGER
    values = json.loads(path.read_text())
    values["files"]["trials/a-0000/trial.json"][0] = 3
    later = LedgerContent().to_json() | {"version": 2}
    contents = {"cut": path.read_text()[:50], "list": "[]", "entry": json.dumps(values), "version": json.dumps(later)}
    path.write_text(contents[change])
    with pytest.raises(ResultsError, match=r"ledger\.json is damaged \(.*; remove it, and the study makes it again"):
        ledger.find()
