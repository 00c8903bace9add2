"""A real study with its results on a real S3-compatible server."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest
from pyarrow import fs
from support import commands
from support.study_command import ONE_AT_A_TIME

from renalnet.data.store.reader import Store, open_store
from renalnet.runtime import storage
from study.config.sections import StudyConfig
from study.execution.cohort import embedded_store
from study.records.manifest import StudyManifest
from study.records.parquet import read_parquet
from study.records.results import Results
from study.records.trials import read_records
from study.search.journal import read_journal


def command(store: Store, config: Path, results: str) -> list[str]:
    options = ["--preset", "quick", "--config", str(config), "--data", store.path, "--results", results, *ONE_AT_A_TIME]
    options += ["--set", "search.num_trials=2", "--set", "search.baselines=[unet3d]"]
    return [sys.executable, "-m", "study.run", *options]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files; its name is short, because Ray makes sockets in it."""
    with TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with its own folder for temporary files."""
    folder.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(folder)}


def run(arguments: list[str], scratch: Path) -> subprocess.CompletedProcess[str]:
    return commands.run(arguments, env=environment(scratch))


def log_of(results: str, name: str) -> fs.FileInfo:
    filesystem, inner = storage.resolve(storage.join(Results(results).trial_folder(name), "epochs.jsonl"))
    return filesystem.get_file_info(inner)


def kill_after_an_end(arguments: list[str], results: str, scratch: Path) -> list[str]:
    """Start a study, kill its driver once a trial has ended, and return the names of the ended trials."""
    driver = commands.start(arguments, env=environment(scratch))
    for _ in range(1200):
        assert driver.poll() is None, driver.communicate()
        ended = [record.name for record in read_records(Results(results)) if record.state in ("complete", "pruned")]
        if ended:
            driver.kill()
            return ended
        time.sleep(0.25)
    raise AssertionError("no trial ended in five minutes")


@pytest.mark.slow
def test_a_killed_study_goes_on_from_the_bucket_alone(
    ball_store: Store, tiny_file: Path, scratch: Path, s3_uri: str
) -> None:
    arguments = command(ball_store, tiny_file, s3_uri)
    ended = kill_after_an_end(arguments, s3_uri, scratch)
    before = {name: log_of(s3_uri, name).mtime_ns for name in ended}
    done = run(arguments, scratch / "2")
    assert done.returncode == 0, done.stderr
    trials = read_parquet(Results(s3_uri).trials_path)
    assert len(trials) == 3 and {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert {name: log_of(s3_uri, name).mtime_ns for name in ended} == before
    ours = optuna.load_study(study_name="fcn_ppm", storage=read_journal(Results(s3_uri)))
    states = {trial["trial"]: trial["state"] for trial in trials if trial["network"] == "fcn_ppm"}
    assert {trial.number: trial.state.name.lower() for trial in ours.trials} == states
    names = storage.list_names(s3_uri)
    assert {"best", "final", "figures", "manifest.json", "report.html", "tables", "trials", "tune"} <= set(names)
    assert ".lease" not in names
    assert not list((scratch / "2").glob("renalnet-*")), "nothing of the study stays on the disk"
    report = run([sys.executable, "-m", "study.report", s3_uri, "--no-write"], scratch / "3")
    assert report.returncode == 0, report.stderr
    assert "Table I" in report.stdout and "Trials:" in report.stdout
    said = json.dumps(storage.read_json(Results(s3_uri).manifest_path)) + done.stderr + done.stdout
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("//scans/", "//nosuch/"), "bucket does not exist"),
        (("//scans/", "//key:hidden@scans/"), "holds credentials; remove them"),
        (("endpoint_override=", "endpoint_overide="), "cannot open"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_line(
    ball_store: Store, tiny_file: Path, tmp_path: Path, s3_uri: str, change: tuple[str, str], reason: str
) -> None:
    done = run(command(ball_store, tiny_file, s3_uri.replace(*change)), tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and reason in done.stderr and "hidden" not in done.stderr


@pytest.mark.slow
def test_the_cohort_of_a_study_on_an_object_store_is_painted_beside_no_results(
    tiny_study: StudyConfig, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    few = {"num_cases": 6, "shape": (60, 110, 110), "spacing_mm": (4.8, 3.2, 3.2)}
    phantom = tiny_study.phantom.model_copy(update=few)
    config = tiny_study.model_copy(update={"phantom": phantom})
    first = embedded_store(StudyManifest(Results(s3_uri), config, None), config, Results(s3_uri))
    assert sorted(storage.list_names(s3_uri)) == ["manifest.json", "store"]
    assert list(tmp_path.iterdir()) == []
    again = embedded_store(StudyManifest(Results(s3_uri), config, None), config, Results(s3_uri))
    assert again.fingerprint == first.fingerprint == open_store(storage.join(s3_uri, "store")).fingerprint
