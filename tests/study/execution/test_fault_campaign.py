"""The campaign of faults: what it counts, on the finished study that these tests share."""

import signal
from pathlib import Path

import pytest
import yaml
from support.study_command import PAUSING
from support.tiny import TINY

from renalnet.data.store.reader import Store
from study.bench.faults.campaign import campaign
from study.bench.faults.damages import DAMAGES, damage_verdicts, kinds
from study.bench.faults.kills import Undisturbed, kill_verdicts
from study.bench.measuring.size import Size
from study.bench.measuring.tiny_study import Ended, TinyStudy, Verdict


@pytest.fixture
def undisturbed(finished: Path, ball_store: Store, tmp_path: Path) -> Undisturbed:
    config = tmp_path / "tiny.yaml"
    search = {**TINY["search"], **PAUSING}
    config.write_text(yaml.safe_dump({**TINY, "search": search, "resources": {"max_concurrent": 1}}))
    return Undisturbed(TinyStudy(ball_store.path, str(config)), finished, duration_s=60.0)


@pytest.mark.slow
def test_six_faults_lose_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    size = Size(kills=1, damages=5, damages_by_command=0, seed=11)
    rows = {row.what: row for row in campaign(undisturbed, size, tmp_path)}
    counts = {what: row.ours for what, row in rows.items() if what != "duration"}
    assert counts.pop("survived", 0) + counts.pop("named", 0) == 6, rows
    assert counts == dict.fromkeys(("lost", "finished trials lost", "other winners", "tracebacks"), 0) | {
        "silent repairs": 0
    }


@pytest.mark.slow
def test_a_damage_that_nothing_names_is_counted(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = "one bit flipped"
    monkeypatch.setattr("study.bench.faults.damages.DAMAGES", {flip: DAMAGES[flip]})
    # A study that compares sizes alone does not see a bit that was flipped.
    monkeypatch.setattr("study.integrity.inspection.SMALL_BYTES", -1)
    verdicts = list(damage_verdicts(undisturbed, tmp_path / "copies", 12, 0, seed=0))
    assert len(verdicts) == 12
    silent = [verdict for verdict in verdicts if verdict.is_silent]
    assert silent and all(verdict.result == "lost" and verdict.why == "no line names it" for verdict in silent)


@pytest.mark.slow
def test_every_file_of_a_study_is_of_a_kind(finished: Path) -> None:
    found = kinds(finished)
    assert len(found["trials/*/trial.json"]) == 6 and found["optuna.journal"] == ["optuna.journal"]
    names = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    assert {name for kind in found.values() for name in kind} == {name for name in names if ".lease" not in name}


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_reaches_the_studies_of_a_campaign_in_the_background(tmp_path: Path) -> None:
    """A shell lets a command in the background ignore SIGINT, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    undisturbed = Undisturbed(TinyStudy("store", "tiny.yaml"), tmp_path, duration_s=60.0)
    assert list(kill_verdicts(undisturbed, tmp_path, number=0, seed=0)) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_verdict_by_what_went_wrong() -> None:
    assert Verdict("x").result == "survived"
    assert Verdict("x", is_refused=True).result == "named"
    assert Verdict("x", "other winner", is_refused=True).result == "lost"
    assert str(Verdict("x lost", "no line names it")) == "x lost: lost (no line names it)"


def test_what_a_command_says_besides_its_log() -> None:
    ended = Ended(2, "", "12:00:01 1 of 2 trials\nerror: stopped\n[*** LOG ERROR #0001] full\n")
    assert ended.said == ["error: stopped"] and not ended.has_traceback
    assert Ended(1, "", "Traceback (most recent call last):\n").has_traceback
