"""Choosing candidates and the winner, by hand-made records."""

from pathlib import Path

import pytest
from study_records import TRAIN, keep_epochs

from renalnet import storage
from renalnet.errors import ResultsError
from study import layout
from study.collect import TrialRecord, read_parquet, write_record, write_tables
from study.config import StudyConfig
from study.final import find_candidates


def keep_trial(results: Path, network: str, number: int, objectives: list[float], failure: str = "") -> None:
    record = TrialRecord(number, network, "complete", {}, TRAIN, cpus=2)
    write_record(str(results), record)
    keep_epochs(results, record.name, objectives, failure)


def test_candidates_are_the_best_of_each_network(tiny_study: StudyConfig, tmp_path: Path) -> None:
    for number, objectives in enumerate([[0.1, 0.5], [0.7, 0.2], [0.6]]):
        keep_trial(tmp_path, "fcn_ppm", number, objectives)
    keep_trial(tmp_path, "unet3d", 0, [0.3])
    keep_trial(tmp_path, "unet3d", 1, [0.4])
    found = find_candidates(str(tmp_path), tiny_study)
    assert [(c.name, c.objective) for c in found] == [
        ("fcn_ppm-0001", 0.7),
        ("fcn_ppm-0002", 0.6),
        ("unet3d-0001", 0.4),
    ]


def test_failed_epochs_do_not_count(tiny_study: StudyConfig, tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [], failure="loss not finite")
    with pytest.raises(ResultsError, match="no trial of fcn_ppm has finished an epoch"):
        find_candidates(str(tmp_path), tiny_study)


def test_tables_sum_hours_and_name_the_best_epoch(tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [0.1, 0.5, 0.3])
    write_tables(str(tmp_path))
    (trial,) = read_parquet(storage.join(tmp_path, layout.TRIALS_TABLE))
    assert (trial["best_epoch"], trial["objective"], trial["epochs"]) == (2, 0.5, 3)
    assert (trial["cpu_hours"], trial["gpu_hours"]) == (3.0, 0.0)
    curves = read_parquet(storage.join(tmp_path, layout.CURVES_TABLE))
    assert [row["epoch"] for row in curves] == [1, 2, 3]


@pytest.mark.parametrize(
    ("background", "milestones", "is_papers"),
    [(0.2, [3, 5, 7], True), (1.0, [3, 5, 7], False), (0.2, [5, 7, 8], False)],
)
def test_only_the_papers_weights_and_steps_are_its_point(
    background: float, milestones: list[int], is_papers: bool, tmp_path: Path
) -> None:
    loss = {**TRAIN["loss"], "background": background}
    train = {**TRAIN, "loss": loss, "optim": {"milestones": milestones}}
    for number in (0, 1):
        write_record(str(tmp_path), TrialRecord(number, "fcn_ppm", "complete", {}, train))
    write_tables(str(tmp_path))
    trials = read_parquet(storage.join(tmp_path, layout.TRIALS_TABLE))
    assert [trial["is_paper_point"] for trial in trials] == [is_papers, False]


def test_tables_are_made_of_records_from_before_waiting_was_measured(tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [0.1, 0.5])
    log = tmp_path / "trials" / "fcn_ppm-0000" / "epochs.jsonl"
    log.write_text(log.read_text().replace(', "data_wait_share": 0.0', "", 1))
    write_tables(str(tmp_path))
    assert log.read_text().count("data_wait_share") == 1
    curves = read_parquet(storage.join(tmp_path, layout.CURVES_TABLE))
    assert [row["data_wait_share"] for row in curves] == [0.0, 0.0]
