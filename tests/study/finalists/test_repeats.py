"""The repeats of finalists: which are planned, which are left, and their searcher, called as Ray Tune calls it."""

from pathlib import Path

import pytest
from support.study_records import keep_epochs, keep_repeat, keep_trial

from study.config.sections import FinalConfig, Slots, StudyConfig
from study.execution.repeat_searcher import RepeatSearch
from study.finalists.repeats import left_of, list_repeats
from study.records.results import Results
from study.records.trials import find_record, write_record
from study.search.trial_counts import count_repeats as numbers_of_repeats

SLOTS = Slots(1, 0.0, 2)


@pytest.fixture
def config(tiny_study: StudyConfig) -> StudyConfig:
    return tiny_study.model_copy(update={"final": tiny_study.final.model_copy(update={"seeds": 2, "folds": 2})})


@pytest.fixture
def results(config: StudyConfig, tmp_path: Path) -> Path:
    """Return a study with two finalists, another trial, and a baseline."""
    for number, objective in enumerate([0.2, 0.5, 0.4]):
        keep_trial(tmp_path, "fcn_ppm", number, [objective])
    keep_trial(tmp_path, "unet3d", 0, [0.3])
    return tmp_path


ORDER = [
    "fcn_ppm-0001-seed-1",
    "fcn_ppm-0002-seed-1",
    "unet3d-0000-seed-1",
    "fcn_ppm-0001-fold-0-of-2",
    "fcn_ppm-0002-fold-0-of-2",
    "fcn_ppm-0001-fold-1-of-2",
    "fcn_ppm-0002-fold-1-of-2",
]


def test_every_finalists_first_repeat_comes_first(config: StudyConfig, results: Path) -> None:
    planned = list_repeats(config, Results(str(results)))
    assert [record.name for record in planned] == ORDER
    # pspnet2d has no trained network here; at most one more finalist, the paper's point, is repeated three times.
    assert sum(numbers_of_repeats(config, 2).values()) == len(ORDER) + 1
    assert sum(numbers_of_repeats(config).values()) == len(ORDER) + 1 + 3


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="folds 1: no case would be left for training"):
        FinalConfig(folds=1)


def test_ended_repeats_are_not_left(config: StudyConfig, results: Path) -> None:
    planned = list_repeats(config, Results(str(results)))
    keep_repeat(results, planned[0], [0.5] * 5)
    keep_repeat(results, planned[1], [], reason="loss not finite")
    write_record(Results(str(results)), planned[2])
    assert [record.name for record in left_of(planned, Results(str(results)))] == ORDER[2:]


def test_longer_trials_are_left_again(config: StudyConfig, results: Path) -> None:
    keep_repeat(results, list_repeats(config, Results(str(results)))[0], [0.5] * 5)
    finalist = find_record(Results(str(results)), "fcn_ppm-0001")
    assert finalist is not None
    finalist.train["epochs"] = 8
    write_record(Results(str(results)), finalist)
    left = left_of(list_repeats(config, Results(str(results))), Results(str(results)))
    assert (left[0].name, left[0].train["epochs"]) == (ORDER[0], 8)


def test_searcher_hands_out_what_is_left(config: StudyConfig, results: Path) -> None:
    planned = list_repeats(config, Results(str(results)))
    keep_repeat(results, planned[0], [0.5] * 5)
    search = RepeatSearch(Results(str(results)), planned, SLOTS)
    suggested = [search.suggest(str(number)) for number in range(7)]
    assert [one["name"] for one in suggested if isinstance(one, dict)] == ORDER[1:]
    assert suggested[-1] is None and search.num_left == 6
    fold = suggested[2]
    assert isinstance(fold, dict)
    assert (fold["fold"], fold["num_folds"], fold["train"]["seed"], fold["network"]) == (0, 2, 0, "fcn_ppm")


@pytest.mark.parametrize(
    ("objectives", "failure", "was_lost", "state", "reason"),
    [
        ([0.1] * 5, "", False, "complete", "all epochs trained"),
        ([0.1] * 3, "", False, "failed", "ended before its last epoch"),
        ([0.1], "loss not finite", False, "failed", "loss not finite"),
        ([0.1], "", True, "failed", "its process was lost"),
    ],
)
def test_ends_are_recorded(
    config: StudyConfig, results: Path, objectives: list[float], failure: str, was_lost: bool, state: str, reason: str
) -> None:
    search = RepeatSearch(Results(str(results)), list_repeats(config, Results(str(results))), SLOTS)
    search.suggest("a")
    if was_lost:
        search.on_trial_complete("a", None, error=True)
        again = search.suggest("a")
        assert isinstance(again, dict) and again["name"] == ORDER[0]
    keep_epochs(results, ORDER[0], objectives, failure)
    search.on_trial_complete("a", {"epoch": len(objectives)}, error=was_lost)
    record = find_record(Results(str(results)), ORDER[0])
    assert record is not None and record.state == state and reason in record.reason
    assert (record.cpus, search.num_left) == (1, 6)
