"""The two tables of trials, made of records that were written by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.study_records import TRAIN, keep_repeat, keep_trial

from renalnet.runtime import storage
from study.records.parquet import read_parquet
from study.records.results import Results
from study.records.trials import TrialRecord, read_records, write_record, write_tables


def test_tables_sum_hours_and_name_the_best_epoch(tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [0.1, 0.5, 0.3])
    write_tables(Results(str(tmp_path)))
    (trial,) = read_parquet(Results(str(tmp_path)).trials_path)
    assert (trial["best_epoch"], trial["objective"], trial["epochs"]) == (2, 0.5, 3)
    assert (trial["cpu_hours"], trial["gpu_hours"]) == (3.0, 0.0)
    curves = read_parquet(Results(str(tmp_path)).curves_path)
    assert [row["epoch"] for row in curves] == [1, 2, 3]


@pytest.mark.parametrize(
    ("background", "milestones", "is_paper_point"),
    [(0.2, [3, 5, 7], True), (1.0, [3, 5, 7], False), (0.2, [5, 7, 8], False)],
)
def test_only_the_papers_weights_and_milestones_are_its_point(
    background: float, milestones: list[int], is_paper_point: bool, tmp_path: Path
) -> None:
    loss = {**TRAIN["loss"], "background": background}
    train = {**TRAIN, "loss": loss, "optim": {"milestones": milestones}}
    for number in (0, 1):
        write_record(Results(str(tmp_path)), TrialRecord(number, "fcn_ppm", "complete", {}, train))
    write_tables(Results(str(tmp_path)))
    trials = read_parquet(Results(str(tmp_path)).trials_path)
    assert [trial["is_paper_point"] for trial in trials] == [is_paper_point, False]


def test_records_without_a_measured_waiting_time_are_read(tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [0.1, 0.5])
    log = tmp_path / "trials" / "fcn_ppm-0000" / "epochs.jsonl"
    log.write_text(log.read_text().replace(', "data_wait_share": 0.0', "", 1))
    write_tables(Results(str(tmp_path)))
    assert log.read_text().count("data_wait_share") == 1
    curves = read_parquet(Results(str(tmp_path)).curves_path)
    assert [row["data_wait_share"] for row in curves] == [0.0, 0.0]


def test_repeats_are_in_the_tables_but_not_among_the_trials_of_the_search(tmp_path: Path) -> None:
    trial = keep_trial(tmp_path, "fcn_ppm", 3, [0.1, 0.5])
    again = replace(trial, train={**trial.train, "seed": 1}, repeat_of=trial.name)
    keep_repeat(tmp_path, again, [0.2])
    keep_repeat(tmp_path, replace(trial, repeat_of=trial.name, fold=1, num_folds=4), [0.3])
    assert [record.name for record in read_records(Results(str(tmp_path)))] == ["fcn_ppm-0003"]
    write_tables(Results(str(tmp_path)))
    results = Results(str(tmp_path))
    for path, num_epochs in ((results.trials_path, (1, 1, 1)), (results.curves_path, (2, 1, 1))):
        rows = read_parquet(path)
        keys = [(row["name"], row["repeat_of"], row["seed"], row["fold"]) for row in rows]
        assert [(key, keys.count(key)) for key in dict.fromkeys(keys)] == [
            (("fcn_ppm-0003", "", 0, None), num_epochs[0]),
            (("fcn_ppm-0003-fold-1-of-4", "fcn_ppm-0003", 0, 1), num_epochs[1]),
            (("fcn_ppm-0003-seed-1", "fcn_ppm-0003", 1, None), num_epochs[2]),
        ]


def test_records_of_a_version_without_repeats_are_read(tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [0.5])
    path = tmp_path / "trials" / "fcn_ppm-0000" / "trial.json"
    values = {key: value for key, value in storage.read_json(path).items() if "fold" not in key and "repeat" not in key}
    storage.write_json(path, values)
    assert [record.name for record in read_records(Results(str(tmp_path)))] == ["fcn_ppm-0000"]
