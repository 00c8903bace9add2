"""Real studies with repeats of their finalists: killed during the repeats, and extended afterwards."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.commands import Command, start
from support.study_command import command, rows, run

from renalnet.data.store.reader import Store
from renalnet.inference.pipeline import load_bundle
from renalnet.nets.bundle import model_digest
from study.integrity.inspection import inspect
from study.records.results import Results

VALUES = (
    "search.num_trials=1",
    "search.baselines=[unet3d]",
    "final.seeds=2",
    "final.folds=2",
    "resources.max_concurrent=1",  # another process of a trial would start for longer than it trains
)
REPEATED = [word for value in VALUES for word in ("--set", value)]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def warnings_but_of_steps(results: Path) -> list[str]:
    """Return the warnings, without those that so small a study leaves no choice: weak steps, and a weak winner."""
    expected = (" is off: ", "the study has failed: ")
    return [line for line in read(results / "manifest.json")["warnings"] if not any(each in line for each in expected)]


def records(results: Path) -> dict[str, Any]:
    """Return the records of the repeats by name."""
    found = {path.parent.name: read(path) for path in results.glob("trials/*/trial.json")}
    return {name: record for name, record in found.items() if record["repeat_of"]}


def wait_for_a_repeat(results: Path, driver: Command) -> list[str]:
    """Return the names of the repeats that have ended, once one has ended and another is running."""
    for _ in range(3600):
        assert driver.poll() is None, "the study ended before it could be killed"
        known = records(results)
        ended = [name for name, record in known.items() if record["state"] != "running"]
        if ended and len(known) > len(ended):
            return ended
        time.sleep(0.1)
    raise AssertionError("no repeat ended in six minutes")


@pytest.fixture(scope="module")
def killed_and_finished(
    ball_store: Store, tiny_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, int]]:
    """A study that was killed during its repeats and resumed, and the time of each log that was complete before."""
    results = tmp_path_factory.mktemp("repeats") / "r"
    arguments = command(ball_store, tiny_file, results, *REPEATED)
    driver = start(arguments)
    ended = wait_for_a_repeat(results, driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not (results / "final").exists()
    written = {name: (results / "trials" / name / "epochs.jsonl").stat().st_mtime_ns for name in ended}
    done = run(arguments)
    assert done.returncode == 0, done.stderr
    assert "repeats of the finalists to run" in done.stderr
    assert "2 folds choose the winner, because there are few validation cases" in done.stderr
    return results, written


@pytest.mark.slow
def test_repeats_go_on_where_they_were_killed(killed_and_finished: tuple[Path, dict[str, int]]) -> None:
    results, written = killed_and_finished
    expected = {f"fcn_ppm-0000-{kind}" for kind in ("seed-1", "fold-0-of-2", "fold-1-of-2")}
    known = records(results)
    assert known.keys() == expected | {"unet3d-0000-seed-1"}
    assert {record["state"] for record in known.values()} == {"complete"}
    for name, before in written.items():
        assert (results / "trials" / name / "epochs.jsonl").stat().st_mtime_ns == before
    repeats = {row["name"]: row for row in rows(results / "trials.parquet") if row["repeat_of"]}
    assert repeats.keys() == known.keys()
    assert all(row["epochs"] == 5 and row["fold"] == known[str(name)]["fold"] for name, row in repeats.items())


@pytest.mark.slow
def test_each_repeat_learned_from_its_own_patients(killed_and_finished: tuple[Path, dict[str, int]]) -> None:
    results, _ = killed_and_finished
    for name, record in records(results).items():
        (_, newest) = sorted((results / "trials" / name).glob("checkpoint-*.json"))
        learned_from = read(newest)["run"].partition("-")[2]
        is_on_fold = f"-fold-{record['fold']}-of-2-seed-0" in learned_from
        assert is_on_fold == (record["fold"] is not None) and ("fold" in learned_from) == is_on_fold
        assert ("fold" in read(results / "trials" / name / "config.json")) == is_on_fold


@pytest.mark.slow
def test_a_kill_changes_nothing(
    killed_and_finished: tuple[Path, dict[str, int]], ball_store: Store, tiny_file: Path, tmp_path: Path
) -> None:
    results, _ = killed_and_finished
    undisturbed = run(command(ball_store, tiny_file, tmp_path / "r", *REPEATED))
    assert undisturbed.returncode == 0, undisturbed.stderr
    ours, theirs = (read(folder / "final" / "selection.json") for folder in (results, tmp_path / "r"))
    assert ours == theirs, "the same runs with the same weights and objectives, and the same winner"


@pytest.mark.slow
def test_ensembles_of_seeds_go_to_the_final_stage(killed_and_finished: tuple[Path, dict[str, int]]) -> None:
    results, _ = killed_and_finished
    selection = read(results / "final" / "selection.json")
    for name, about in selection["candidates"].items():
        assert about["members"] == [name, f"{name}-seed-1"]
        assert about["over_seeds"]["num"] == 2
        assert (about["over_folds"] or {}).get("num") == (None if name.startswith("unet3d") else 2)
        for split in ("validation", "test"):
            assert len(list((results / "final" / "parts").glob(f"{split}-{name}-{about['digest']}-*.parquet"))) == 2
    winner = selection["winner"]
    assert selection["num_folds"] == 2, "of two validation cases, which are too few to choose by"
    assert {row["checkpoint"] for row in rows(results / "final" / "metrics.parquet") if row["role"] == "winner"} == {
        winner
    }
    best = results / "best"
    assert len(load_bundle(str(best)).nets) == 2
    for folder, member in ((best, winner), (best / "members" / "2", f"{winner}-seed-1")):
        assert model_digest(folder) == model_digest(results / "trials" / member)
    assert "2 networks of the seeds 0, 1 vote together" in (best / "README.md").read_text()
    assert "repeats" in read(results / "manifest.json")["durations_s"]


@pytest.mark.slow
def test_an_extended_study_chooses_anew_and_says_so(
    killed_and_finished: tuple[Path, dict[str, int]], ball_store: Store, tiny_file: Path
) -> None:
    results, _ = killed_and_finished
    first = read(results / "final" / "selection.json")
    same = run(command(ball_store, tiny_file, results, *REPEATED))
    assert same.returncode == 0, same.stderr
    assert read(results / "final" / "selection.json") == first and "to run" not in same.stderr
    assert not warnings_but_of_steps(results)
    longer = run(command(ball_store, tiny_file, results, *REPEATED, "--set", "train.epochs=6"))
    assert longer.returncode == 0, longer.stderr
    assert read(results / "final" / "selection-1.json") == first
    assert {record["train"]["epochs"] for record in records(results).values()} == {6}
    (warning,) = warnings_but_of_steps(results)
    assert "had been read once before this study was extended (final/selection-1.json)" in warning
    parts = [path.name for path in (results / "final" / "parts").iterdir()]
    assert inspect(Results(str(results)), is_full=True).faults == ()
    assert len(parts) == 2 * 2 * 2, "a part for each candidate and patient, two a split, of today's weights alone"
