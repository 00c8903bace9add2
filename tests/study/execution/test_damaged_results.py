"""A finished study one of whose files was lost or damaged: it is named, restored or made again, or the study stops."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import typer
from support.study_command import ONE_AT_A_TIME, command, copy_study, run

from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from study.integrity.inspection import inspect
from study.integrity.mending import mend_study, restore_manifest
from study.records.ledger import LEDGER, Ledger
from study.records.results import Results
from study.search.journal import read_journal
from study.verify import verify

pytestmark = pytest.mark.slow  # the study that they share takes about a minute
CASE = "case_00006"
"""A test case."""


def selection_of(results: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((results / "final" / "selection.json").read_text())
    return values


def located(results: Path, name: str) -> Path:
    """Return a file, in whose name WINNER, OTHER (a trial that is no finalist) and DIGEST are replaced."""
    selection = selection_of(results)
    finalists = selection["candidates"]
    trials = sorted(path.name for path in (results / "trials").iterdir())
    other = next(trial for trial in trials if trial.startswith("fcn_ppm") and trial not in finalists)
    winner = selection["winner"]
    digest = finalists[winner]["digest"]
    return results / name.replace("WINNER", winner).replace("OTHER", other).replace("DIGEST", digest)


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_type(path: Path) -> None:
    path.write_bytes(b"[]\n")


def swap(path: Path) -> None:
    """Replace a file by one of the same kind that belongs to something else, or one of its bytes by another."""
    others = [other for other in sorted(path.parent.parent.rglob(f"*{path.suffix}")) if other.name != ".lease"]
    other = next((other for other in others if other.read_bytes() != path.read_bytes()), None)
    content = bytearray((other or path).read_bytes())
    if other is None:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = (lose, empty, cut, change_type, swap)
SEEN_WITHOUT_LEDGER = (lose, empty, cut, change_type)
"""Without a ledger, a file of another trial is not told apart from the right one."""
RESTORED = (
    "trials/WINNER/trial.json",
    "trials/WINNER/epochs.jsonl",
    "trials/WINNER/model.safetensors",
    "trials/WINNER/config.json",
    "trials/OTHER/trial.json",
    "trials/OTHER/epochs.jsonl",
    "final/selection.json",
    "final/steps/WINNER-DIGEST.json",
    "best/model.safetensors",
)
OF_A_CASE = (
    f"final/parts/test-WINNER-DIGEST-{CASE}.parquet",
    f"final/masks/WINNER/{CASE}.nii.gz",
    f"final/roi_labels/WINNER/{CASE}.npz",
    f"final/signs/WINNER/{CASE}.json",
)
OF_EVERY_RUN = (
    "trials.parquet",
    "curves.parquet",
    "importances.parquet",
    "final/metrics.parquet",
    "final/quality.parquet",
    "final/plan.parquet",
    "final/steps.json",
    f"final/views/{CASE}.npz",
    "best/config.json",
    "best/quality.json",
    "best/README.md",
)


def damaged(results: Path, name: str, damages: Sequence[Callable[[Path], None]]) -> Iterator[tuple[str, Path]]:
    """Damage a file in one way after the other, and yield the damage and the file.

    Before the next damage, the file, the ledger and the measurements of `CASE` are as they were.
    """
    path = located(results, name)
    paths = (path, results / LEDGER, located(results, OF_A_CASE[0]))
    before = {each: each.read_bytes() for each in paths}
    for damage in damages:
        damage(path)
        yield damage.__name__, path
        for each, content in before.items():
            each.write_bytes(content)


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    return copy_study(finished, tmp_path / "r")


def test_a_finished_study_is_whole(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(str(results))
    assert "compared with the ledger, 0 lost or damaged" in capsys.readouterr().out
    (results / LEDGER).unlink()
    verify(str(results))
    assert "read without a ledger, 0 lost or damaged" in capsys.readouterr().out
    assert not (results / LEDGER).exists()


def test_the_ledger_names_all_finished_work(results: Path) -> None:
    content = Ledger(Results(str(results))).find()
    assert content is not None
    files = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    left_out = ("tune/", "figures/", "tables/", "report.html", "terminal.txt", "log.txt", "manifest.json", LEDGER)
    checkpoints = {name for name in files if "/checkpoint-" in name}
    assert set(content.files) == {name for name in files - checkpoints if not name.startswith(left_out)}
    assert set(content.copies) == {"manifest.json", "final/selection.json"}


@pytest.mark.parametrize("name", RESTORED)
def test_what_has_another_copy_is_restored_exactly(name: str, results: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = located(results, name).read_bytes()
    for damage, path in damaged(results, name, DAMAGES):
        caplog.clear()
        mend_study(Results(str(results)))
        assert path.read_bytes() == before, damage
        (line,) = caplog.messages
        assert str(path.relative_to(results)) in line and "restored from" in line, damage
        assert inspect(Results(str(results)), is_full=True).faults == (), damage


@pytest.mark.parametrize("name", RESTORED[:6])
def test_it_is_restored_without_a_ledger_too(name: str, results: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = located(results, name).read_bytes()
    for damage, path in damaged(results, name, SEEN_WITHOUT_LEDGER):
        (results / LEDGER).unlink()
        caplog.clear()
        mend_study(Results(str(results)))
        assert path.read_bytes() == before, damage
        assert str(path.relative_to(results)) in caplog.text and (results / LEDGER).exists(), damage


def test_a_journal_is_made_again_of_the_records(results: Path) -> None:
    before = trials_in_journal(results)
    for damage, _ in damaged(results, "optuna.journal", SEEN_WITHOUT_LEDGER):
        mend_study(Results(str(results)))
        assert trials_in_journal(results) == before, damage


def trials_in_journal(results: Path) -> dict[str, list[Any]]:
    journal = read_journal(Results(str(results)))
    names = optuna.get_all_study_names(journal)
    studies = {name: optuna.load_study(study_name=name, storage=journal) for name in names}
    return {
        name: [(t.number, t.state, t.values, t.params, t.distributions, t.intermediate_values) for t in study.trials]
        for name, study in studies.items()
    } | {f"{name}: attributes": [study.user_attrs] for name, study in studies.items()}


@pytest.mark.parametrize("name", OF_A_CASE)
def test_a_case_with_a_lost_mask_is_measured_again(name: str, results: Path, caplog: pytest.LogCaptureFixture) -> None:
    winner = selection_of(results)["winner"]
    for damage, path in damaged(results, name, DAMAGES):
        caplog.clear()
        mend_study(Results(str(results)))
        (line,) = caplog.messages
        assert str(path.relative_to(results)) in line and "makes it again" in line, damage
        # The final stage measures the cases that have no measurements.
        assert not located(results, OF_A_CASE[0]).exists(), damage
        content = Ledger(Results(str(results))).find()
        assert content is not None
        assert not [file for file in content.files if winner in file and CASE in file], damage


@pytest.mark.parametrize("name", OF_EVERY_RUN)
def test_what_every_run_writes_is_named(name: str, results: Path, caplog: pytest.LogCaptureFixture) -> None:
    for damage, _ in damaged(results, name, DAMAGES):
        caplog.clear()
        mend_study(Results(str(results)))
        (line,) = caplog.messages
        assert name in line and "makes it again" in line, damage


def test_a_manifest_is_restored_from_the_ledger(results: Path) -> None:
    before = (results / "manifest.json").read_bytes()
    for damage, path in damaged(results, "manifest.json", SEEN_WITHOUT_LEDGER):
        mended = restore_manifest(Results(str(results)))
        assert mended is not None and mended.fault.name == "manifest.json", damage
        assert path.read_bytes() == before, damage
        assert restore_manifest(Results(str(results))) is None, damage


def test_a_manifest_without_a_copy_stops_the_study(results: Path) -> None:
    (results / LEDGER).unlink()
    change_type(results / "manifest.json")
    with pytest.raises(ResultsError, match=r"manifest\.json is damaged \(a JSON list instead of an object\)"):
        restore_manifest(Results(str(results)))


@pytest.mark.parametrize("damage", [empty, cut, change_type])
def test_a_damaged_ledger_is_made_again(
    damage: Callable[[Path], None], results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = Ledger(Results(str(results))).find()
    damage(results / LEDGER)
    mend_study(Results(str(results)))
    assert f"{LEDGER}: " in caplog.text and "made again" in caplog.text
    after = Ledger(Results(str(results))).find()
    assert before is not None and after is not None
    assert {name: before.files[name] for name in after.files} == after.files


def lose_a_finalist(results: Path) -> str:
    """Lose the weights of the baseline `unet3d`, checkpoints included."""
    for path in (results / "trials" / "unet3d-0000").glob("*.safetensors"):
        path.unlink()
    return "trials/unet3d-0000/model.safetensors"


def test_lost_weights_of_a_finalist_stop_the_study(results: Path) -> None:
    name = lose_a_finalist(results)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    with pytest.raises(ResultsError, match=rf"{name}: lost, and there is no other copy; .* nothing was overwritten"):
        mend_study(Results(str(results)))
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("is_there", "what"), [(False, "lost"), (True, "damaged (2 instead of")])
def test_verify_gives_up_weights_when_it_is_asked_to(
    is_there: bool, what: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = lose_a_finalist(results)
    if is_there:
        (results / name).write_text("{}")
    with pytest.raises(typer.Exit) as found:
        verify(str(results))
    assert found.value.exit_code == 2 and capsys.readouterr().out.startswith(f"{name}: {what}")
    verify(str(results), repair=True)
    (line, _) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{name}: {what}")
    assert line.endswith("; there is no other copy, and the study goes on without it")
    verify(str(results))
    mend_study(Results(str(results)))


def test_weights_in_reserve_are_left_out(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = located(results, "trials/OTHER")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    mend_study(Results(str(results)))
    line = caplog.messages[-1]  # after those of the checkpoints that are lost, too
    assert f"trials/{folder.name}/model.safetensors" in line and "goes on without it" in line


def test_a_lost_record_without_a_table_stops_the_study(results: Path) -> None:
    located(results, "trials/WINNER/trial.json").unlink()
    (results / "trials.parquet").unlink()
    with pytest.raises(ResultsError, match=r"trial\.json: lost, and there is no other copy; restore it from a backup;"):
        mend_study(Results(str(results)))


def test_verify_restores_and_says_what_the_study_makes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = located(results, "trials/WINNER/model.safetensors")
    mask = located(results, f"final/masks/WINNER/{CASE}.nii.gz")
    before = weights.read_bytes()
    cut(weights)
    lose(mask)
    with pytest.raises(typer.Exit):
        verify(str(results), repair=True)
    out = capsys.readouterr().out
    assert "restored from best/" in out and f"{mask.relative_to(results)}: lost; the study's command makes it" in out
    assert weights.read_bytes() == before
    with pytest.raises(typer.Exit):
        verify(str(results))
    assert not list(results.glob(".lease*"))


def test_a_large_file_is_compared_whole_by_verify_alone(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.integrity.inspection.SMALL_BYTES", 100)
    path = located(results, "trials/WINNER/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert inspect(Results(str(results))).faults == ()
    (fault,) = inspect(Results(str(results)), is_full=True).faults
    assert fault.name.endswith("model.safetensors") and "differs from its checksum" in fault.what


def test_the_command_keeps_the_winner_and_names_every_file(
    results: Path, finished: Path, ball_store: Store, tiny_file: Path
) -> None:
    """Two runs, because a record is restored by the journal and the journal by the records."""
    first = {
        "optuna.journal": cut,
        "trials/WINNER/model.safetensors": change_type,
        "trials/WINNER/config.json": change_type,
        f"final/masks/WINNER/{CASE}.nii.gz": lose,
        f"final/roi_labels/unet3d-0000/{CASE}.npz": empty,
    }
    second = {
        "trials/WINNER/trial.json": change_type,
        "trials/WINNER/epochs.jsonl": cut,
        "manifest.json": change_type,
        "final/steps.json": change_type,
        "best/config.json": lose,
        "final/selection.json": lose,
        f"final/signs/WINNER/{CASE}.json": change_type,
    }
    for damages in (first, second):
        paths = {located(results, name): damage for name, damage in damages.items()}
        for path, damage in paths.items():
            damage(path)
        done = run(command(ball_store, tiny_file, results, *ONE_AT_A_TIME))
        assert done.returncode == 0, done.stderr
        for path in paths:
            assert str(path.relative_to(results)) in done.stderr
        assert contents(results) == contents(finished)
        assert inspect(Results(str(results)), is_full=True).faults == ()


def contents(results: Path) -> dict[str, bytes]:
    """Return the files that a repeated study leaves as they are."""
    patterns = ("best/*", "final/masks/*/*", "final/signs/*/*", "final/*.json", "trials/*/trial.json", "*/*/*.jsonl")
    return {str(path.relative_to(results)): path.read_bytes() for each in patterns for path in results.glob(each)}


@pytest.fixture(autouse=True)
def _warnings_only(caplog: pytest.LogCaptureFixture) -> None:
    """Take what the study says on stderr, without its progress."""
    caplog.set_level(logging.WARNING)
