"""Progress of a study, from records written by hand, in which every epoch takes half an hour."""

from pathlib import Path
from typing import Any

import pytest
from support.study_records import TRAIN, keep_epochs

from renalnet.train.epochs import EpochRecord
from study.config.sections import Slots, StudyConfig
from study.progress.progress import StudyFollower, figures_of, hours_words, progress_line, progress_of
from study.records.results import Results
from study.records.trials import State, TrialRecord, write_record

ONE_SLOT = Slots(cpus=2, gpus=0.0, num_slots=1)


def keep(results: Path, number: int, state: State, objectives: list[float], **changes: Any) -> None:
    values: dict[str, Any] = {"network": "fcn_ppm", "cpus": 2.0, "gpus": 0.0} | changes
    record = TrialRecord(number, state=state, point={}, train=TRAIN, **values)
    write_record(Results(str(results)), record)
    keep_epochs(results, record.name, objectives)


@pytest.fixture
def four(tiny_study: StudyConfig) -> StudyConfig:
    """Four trials of five epochs, no baseline."""
    return tiny_study.model_copy(update={"search": tiny_study.search.model_copy(update={"baselines": ()})})


def test_trials_are_counted_by_state(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "complete", [0.1, 0.2, 0.3, 0.4, 0.5])
    keep(tmp_path, 1, "pruned", [0.6, 0.1])
    keep(tmp_path, 2, "running", [])
    progress = StudyFollower(four, Results(str(tmp_path)), ONE_SLOT).look()
    assert progress.counts == {"complete": 1, "pruned": 1, "running": 1}
    assert (progress.num_ended, progress.num_planned) == (2, 4)
    assert progress.best and progress.best.name == "fcn_ppm-0001"
    assert progress.best.best and progress.best.best.objective == 0.6


def test_a_pruned_trial_saves_its_missing_epochs_at_its_own_pace(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "complete", [0.5] * 5)
    keep(tmp_path, 1, "pruned", [0.1, 0.1])
    keep(tmp_path, 2, "failed", [0.1])
    progress = StudyFollower(four, Results(str(tmp_path)), ONE_SLOT).look()
    assert progress.device == "CPU"
    assert progress.spent_hours == 8 * 0.5 * 2
    assert progress.saved_hours == 3 * 0.5 * 2


def test_gpu_hours_count_fractions(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "pruned", [0.5] * 4, gpus=0.25)
    progress = StudyFollower(four, Results(str(tmp_path)), Slots(2, 0.25, 4)).look()
    assert (progress.device, progress.spent_hours, progress.saved_hours) == ("GPU", 0.5, 0.125)


def test_before_the_first_epoch_no_time_is_predicted(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "running", [])
    progress = StudyFollower(four, Results(str(tmp_path)), ONE_SLOT).look()
    assert progress.left_s is None
    assert progress_line(progress) == (
        "0 of 4 trials ended, 1 running · 0 CPU-hours spent, 0 saved by pruning · waiting for data 0%"
    )


def test_time_left_without_an_end_is_that_of_all_epochs(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "running", [0.1, 0.2])
    assert StudyFollower(four, Results(str(tmp_path)), ONE_SLOT).look().left_s == (3 + 3 * 5) * 1800


def test_time_left_expects_what_ended_trials_have_shown(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "complete", [0.5] * 5)
    keep(tmp_path, 1, "pruned", [0.1, 0.1])
    # Longer than the pruned trial, it is expected to reach 5 epochs: 3 left. The last trial reaches (5 + 2) / 2.
    keep(tmp_path, 2, "running", [0.2, 0.2])
    assert StudyFollower(four, Results(str(tmp_path)), ONE_SLOT).look().left_s == (3 + 3.5) * 1800


def test_slots_share_the_work_but_no_trial(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "running", [0.1])
    left_s = {num: StudyFollower(four, Results(str(tmp_path)), Slots(2, 0.0, num)).look().left_s for num in (2, 100)}
    assert left_s == {2: 19 / 2 * 1800, 100: 5 * 1800}


def test_a_network_without_epochs_is_taken_to_be_as_quick_as_the_others(
    tiny_study: StudyConfig, tmp_path: Path
) -> None:
    for number in range(4):
        keep(tmp_path, number, "complete", [0.5] * 5)
    assert StudyFollower(tiny_study, Results(str(tmp_path)), ONE_SLOT).look().left_s == 2 * 5 * 1800


def test_an_ended_study_says_so(four: StudyConfig, tmp_path: Path) -> None:
    for number in range(3):
        keep(tmp_path, number, "complete", [0.25 * number] * 5)
    keep(tmp_path, 3, "failed", [])
    assert progress_line(StudyFollower(four, Results(str(tmp_path)), ONE_SLOT).look()) == (
        "4 of 4 trials ended, 1 failed · best fcn_ppm-0002 0.500 (Dice kidney 0.500, tumor 0.500) · "
        "15 CPU-hours spent, 0 saved by pruning · waiting for data 0% · search ended"
    )


@pytest.mark.parametrize(("hours", "words"), [(0.00312, "0.00312"), (0.0, "0"), (15.04, "15"), (1234.5, "1234")])
def test_hours_have_three_digits(hours: float, words: str) -> None:
    assert hours_words(hours) == words


def test_ended_trials_are_read_once_and_running_ones_again(four: StudyConfig, tmp_path: Path) -> None:
    keep(tmp_path, 0, "complete", [0.5] * 5)
    keep(tmp_path, 1, "running", [0.6])
    follower = StudyFollower(four, Results(str(tmp_path)), ONE_SLOT)
    assert follower.look().spent_hours == 6
    (tmp_path / "trials/fcn_ppm-0000/epochs.jsonl").unlink()
    keep(tmp_path, 1, "running", [0.6, 0.7])
    assert follower.look().spent_hours == 7


def test_the_wait_share_weighs_epochs_by_their_time() -> None:
    record = TrialRecord(0, "fcn_ppm", "running", {}, TRAIN)
    epochs = [
        EpochRecord(1, 1.0, {"kidney": 0.5, "tumor": 0.5}, 0.5, 0.1, seconds=100.0, data_wait_share=0.5),
        EpochRecord(2, 1.0, {"kidney": 0.5, "tumor": 0.5}, 0.5, 0.1, seconds=300.0, data_wait_share=0.1),
    ]
    progress = progress_of([figures_of(record, epochs)], StudyConfig(), ONE_SLOT)
    assert progress.wait_share == pytest.approx((50 + 30) / 400)


def keep_again(results: Path, number: int, seed: int, state: State, objectives: list[float]) -> None:
    train = {**TRAIN, "seed": seed}
    record = TrialRecord(number, "fcn_ppm", state, {}, train, cpus=2.0, repeat_of=f"fcn_ppm-{number:04d}")
    write_record(Results(str(results)), record)
    keep_epochs(results, record.name, objectives)


def test_repeats_are_counted_and_are_never_the_best_trial(four: StudyConfig, tmp_path: Path) -> None:
    final = four.final.model_copy(update={"seeds": 2, "folds": 2, "num_finalists": 1})
    repeated = four.model_copy(update={"final": final})
    for number in range(3):
        keep(tmp_path, number, "complete", [0.5] * 5)
    keep(tmp_path, 3, "pruned", [0.1])
    follower = StudyFollower(repeated, Results(str(tmp_path)), ONE_SLOT)
    before = follower.look()
    assert (before.num_ended, before.num_planned, before.left_s) == (4, 7, 3 * 5 * 1800)
    keep_again(tmp_path, 0, 1, "running", [0.9, 0.9])
    after = follower.look()
    assert (after.num_ended, after.num_planned, after.left_s) == (4, 7, (3 + 2 * 5) * 1800)
    assert after.best and after.best.name == "fcn_ppm-0000"
    assert not after.is_ended


def test_repeats_of_earlier_finalists_are_in_the_count(four: StudyConfig, tmp_path: Path) -> None:
    for number in range(4):
        keep(tmp_path, number, "complete", [0.5] * 5)
    keep_again(tmp_path, 0, 1, "complete", [0.5] * 5)
    progress = StudyFollower(four, Results(str(tmp_path)), ONE_SLOT).look()
    assert (progress.num_ended, progress.num_planned, progress.left_s) == (5, 5, 0)
