"""Studies that a second driver meets, and studies that are extended, started from the command line."""

import json
import time
from pathlib import Path

import pytest
from support.commands import start
from support.study_command import ONE_AT_A_TIME, command, copy_study, rows, run

from renalnet.data.store.reader import Store
from study.integrity.inspection import inspect
from study.records.results import Results


@pytest.mark.slow
def test_second_driver_is_told_of_the_first(ball_store: Store, tiny_file: Path, tmp_path: Path) -> None:
    arguments = command(ball_store, tiny_file, tmp_path / "r", "--set", "train.steps_per_epoch=50")
    driver = start(arguments)
    while not list(tmp_path.glob("r/trials/*/trial.json")):
        assert driver.poll() is None
        time.sleep(0.2)
    before = (tmp_path / "r" / "optuna.journal").stat().st_size
    second = run(arguments)
    assert second.returncode == 2 and second.stderr.count("\n") == 1
    assert f"process {driver.pid} on " in second.stderr and "is writing here" in second.stderr
    assert driver.poll() is None and (tmp_path / "r" / "optuna.journal").stat().st_size >= before
    driver.kill()


@pytest.mark.slow
def test_finished_study_is_extended_and_narrowed(
    finished: Path, ball_store: Store, tiny_file: Path, tmp_path: Path
) -> None:
    first = command(ball_store, tiny_file, copy_study(finished, tmp_path / "r"), *ONE_AT_A_TIME)
    before = {row["name"]: row for row in rows(tmp_path / "r" / "trials.parquet")}
    more = ["search.num_trials=6", "train.epochs=7", "space.tumor_weight=[1, 3]", "space.kernel_sets=[[1, 2], [1]]"]
    done = run([*first, *(word for assignment in more for word in ("--set", assignment))])
    assert done.returncode == 0, done.stderr
    after = {str(row["name"]): row for row in rows(tmp_path / "r" / "trials.parquet")}
    assert len(after) == 8 and set(before) < set(after)
    for name, row in before.items():
        own = after[str(name)]
        if row["state"] == "complete":
            assert own["epochs"] == 7 or own["state"] == "pruned"
        else:
            assert own["epochs"] == row["epochs"]
    for name in ("fcn_ppm-0004", "fcn_ppm-0005"):
        assert 1 <= float(str(after[name]["weight_tumor"])) <= 3 and after[name]["ppm_kernels"] in ("1-2", "1")
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert manifest["changes"][0]["changed"]["train.epochs"] == [5, 7]
    assert manifest["config"]["search"]["num_trials"] == 6
    assert inspect(Results(str(tmp_path / "r")), is_full=True).faults == ()
