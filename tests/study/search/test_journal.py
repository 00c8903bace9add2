"""Optuna's journal on a disk and on an object store."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from renalnet.errors import ResultsError
from renalnet.runtime import storage
from study.records.results import Results
from study.search import journal as journals
from study.search.journal import StudyJournal, open_journal, read_journal

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(autouse=True)
def _no_upload_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upload only when a test asks for it."""
    monkeypatch.setattr(journals, "UPLOAD_EVERY_S", 3600.0)


def tell(journal: StudyJournal, *values: float) -> list[float]:
    """Run trials with the given values, and return all values of the study."""
    study = optuna.create_study(storage=journal, study_name="s", load_if_exists=True)
    for value in values:
        study.tell(study.ask(), value)
    return [trial.value or 0.0 for trial in study.trials]


def stored(uri: str, tmp_path: Path) -> list[float]:
    """Return all values of the study, as Optuna reads them from a copy of the stored file."""
    copy = tmp_path / "copy.journal"
    copy.write_bytes(storage.read_bytes(storage.join(uri, "optuna.journal")))
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(copy))))
    return [trial.value or 0.0 for trial in study.trials]


def test_what_was_flushed_is_stored_and_goes_on(s3_uri: str, tmp_path: Path) -> None:
    with closing(open_journal(Results(s3_uri))) as first:
        tell(first, 1.0, 2.0)
        first.flush()
        assert stored(s3_uri, tmp_path) == [1.0, 2.0]
        tell(first, 3.0)
    assert stored(s3_uri, tmp_path) == [1.0, 2.0, 3.0]
    with closing(open_journal(Results(s3_uri))) as second:
        assert tell(second, 4.0) == [1.0, 2.0, 3.0, 4.0]


def test_what_a_killed_driver_had_not_uploaded_does_not_count(s3_uri: str, tmp_path: Path) -> None:
    killed = open_journal(Results(s3_uri))
    tell(killed, 1.0)
    killed.flush()
    tell(killed, 2.0)
    with closing(open_journal(Results(s3_uri))) as next_driver:
        assert tell(next_driver, 5.0) == [1.0, 5.0]
    assert stored(s3_uri, tmp_path) == [1.0, 5.0]


def test_a_burst_is_one_upload(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[int] = []
    write: Callable[[str, bytes], None] = storage.write_bytes
    monkeypatch.setattr(
        storage, "write_bytes", lambda path, content: (uploads.append(len(content)), write(path, content))
    )
    with closing(open_journal(Results(s3_uri))) as journal:
        tell(journal, *range(20))
        assert uploads == []
        journal.flush()
        journal.flush()
        assert len(uploads) == 1
    assert len(uploads) == 1


def test_it_is_uploaded_by_the_clock(s3_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journals, "UPLOAD_EVERY_S", 0.05)
    with closing(open_journal(Results(s3_uri))) as journal:
        tell(journal, 1.0)
        for _ in range(200):
            if storage.exists(storage.join(s3_uri, "optuna.journal")):
                break
            journal.backend.ended.wait(0.05)
        else:
            raise AssertionError("nothing was uploaded in ten seconds")


def test_a_store_that_refuses_is_told_to_who_waits_and_nothing_stays_behind(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(Results(s3_uri))
    folder = journal.backend.source.parent
    tell(journal, 1.0)

    def refuse(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(storage, "write_bytes", refuse)
    with pytest.raises(OSError, match="gone"):
        journal.flush()
    with pytest.raises(OSError, match="gone"):
        journal.close()
    assert not folder.exists()


def test_a_local_journal_lies_where_it_is(tmp_path: Path) -> None:
    with closing(open_journal(Results(str(tmp_path)))) as journal:
        assert tell(journal, 1.0) == [1.0]
        assert (tmp_path / "optuna.journal").stat().st_size > 0
        journal.flush()


def test_an_entry_cut_short_is_dropped(tmp_path: Path) -> None:
    with closing(open_journal(Results(str(tmp_path)))) as journal:
        tell(journal, 1.0)
    path = tmp_path / "optuna.journal"
    path.write_bytes(path.read_bytes() + b'{"op_code": 4, "wor')
    with closing(open_journal(Results(str(tmp_path)))) as journal:
        assert tell(journal, 2.0) == [1.0, 2.0]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_another_reads_and_does_not_write(tmp_path: Path, s3_uri: str) -> None:
    for results in (Results(str(tmp_path / "results")), Results(s3_uri)):
        with pytest.raises(ResultsError, match=r"holds no optuna\.journal"):
            read_journal(results)
        with closing(open_journal(results)) as journal:
            tell(journal, 1.0)
        study = optuna.load_study(study_name="s", storage=read_journal(results))
        assert [trial.value for trial in study.trials] == [1.0]
        with pytest.raises(ResultsError, match="opened for reading"):
            study.ask()
