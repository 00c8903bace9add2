"""The finalists of a study, from records that were written by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.study_records import TRAIN, keep_model, keep_repeat, keep_trial

from renalnet.errors import ResultsError
from study.config.sections import StudyConfig
from study.finalists.finalists import Finalist, find_finalists, load_finalists, repeats_of
from study.finalists.repeats import list_repeats
from study.records.results import Results
from study.records.trials import TrialRecord, write_record
from study.search.trial_counts import count_repeats, num_finalists


def repeated(config: StudyConfig, **final: Any) -> StudyConfig:
    return config.model_copy(update={"final": config.final.model_copy(update=final)})


def only(results: Path, config: StudyConfig, network: str = "fcn_ppm") -> Finalist:
    return next(found for found in load_finalists(Results(str(results)), config) if found.network == network)


def test_finalists_are_the_best_of_each_network(tiny_study: StudyConfig, tmp_path: Path) -> None:
    for number, objectives in enumerate([[0.1, 0.5], [0.7, 0.2], [0.6]]):
        keep_trial(tmp_path, "fcn_ppm", number, objectives)
    keep_trial(tmp_path, "unet3d", 0, [0.3])
    keep_trial(tmp_path, "unet3d", 1, [0.4])
    found = load_finalists(Results(str(tmp_path)), tiny_study)
    assert [(c.name, c.objective, c.members) for c in found] == [
        ("fcn_ppm-0001", 0.7, ("fcn_ppm-0001",)),
        ("fcn_ppm-0002", 0.6, ("fcn_ppm-0002",)),
        ("unet3d-0001", 0.4, ("unet3d-0001",)),
    ]


def test_the_papers_point_is_a_finalist_however_bad_it_is(tiny_study: StudyConfig, tmp_path: Path) -> None:
    for number, objective in enumerate([0.1, 0.5, 0.4, 0.3]):
        record = keep_trial(tmp_path, "fcn_ppm", number, [objective])
        write_record(Results(str(tmp_path)), replace(record, train={**TRAIN, "optim": {"milestones": [3, 5, 7]}}))
    config = repeated(tiny_study, seeds=3, folds=2)
    found = load_finalists(Results(str(tmp_path)), config)
    assert [(one.name, one.is_reference) for one in found] == [
        ("fcn_ppm-0001", False),
        ("fcn_ppm-0002", False),
        ("fcn_ppm-0000", True),
    ]
    # On equal terms: as many repeats as the winner.
    names = [record.name for record in list_repeats(config, Results(str(tmp_path)))]
    assert names[:3] == [f"fcn_ppm-{number:04d}-seed-1" for number in (1, 2, 0)] and len(names) == 3 * (2 + 2)
    assert (num_finalists(config), count_repeats(config)["fcn_ppm"]) == (3, 12)


def test_failed_epochs_do_not_count(tiny_study: StudyConfig, tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [], failure="loss not finite")
    with pytest.raises(ResultsError, match="no trial of fcn_ppm has finished an epoch"):
        load_finalists(Results(str(tmp_path)), tiny_study)


def test_a_trial_without_weights_is_no_finalist(tiny_study: StudyConfig, tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [0.9], has_model=False)
    keep_trial(tmp_path, "fcn_ppm", 1, [0.5])
    assert [record.name for record in find_finalists(Results(str(tmp_path)), tiny_study)] == ["fcn_ppm-0001"]


def test_repeats_are_over_the_next_seeds_and_on_folds(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = repeated(tiny_study, seeds=3, folds=2)
    ours = keep_trial(tmp_path, "fcn_ppm", 3, [0.5])
    baseline = keep_trial(tmp_path, "unet3d", 0, [0.5])
    planned = repeats_of(config, ours)
    assert [(record.name, record.seed, record.train.get("max_validation_cases")) for record in planned] == [
        ("fcn_ppm-0003-seed-1", 1, None),
        ("fcn_ppm-0003-seed-2", 2, None),
        ("fcn_ppm-0003-fold-0-of-2", 0, 0),
        ("fcn_ppm-0003-fold-1-of-2", 0, 0),
    ]
    assert [record.name for record in repeats_of(config, baseline)] == ["unet3d-0000-seed-1", "unet3d-0000-seed-2"]
    assert repeats_of(tiny_study, ours) == []


def keep_runs(results: Path, config: StudyConfig, finalist: TrialRecord, *reached: list[float]) -> None:
    for planned, objectives in zip(repeats_of(config, finalist), reached, strict=True):
        keep_repeat(results, planned, objectives, reason="" if objectives else "loss not finite")


def test_rank_is_by_the_mean_over_seeds_and_folds(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = repeated(tiny_study, seeds=2, folds=2)
    lucky = keep_trial(tmp_path, "fcn_ppm", 0, [0.9])
    steady = keep_trial(tmp_path, "fcn_ppm", 1, [0.8])
    keep_runs(tmp_path, config, lucky, [0.5], [0.4], [0.6])
    keep_runs(tmp_path, config, steady, [0.7], [0.9], [0.8])
    found = load_finalists(Results(str(tmp_path)), config)
    assert [(c.name, round(c.objective, 9)) for c in found] == [("fcn_ppm-0001", 0.8), ("fcn_ppm-0000", 0.6)]
    entry = found[1].to_json()
    assert entry["over_seeds"] == {"mean": pytest.approx(0.7), "sd": pytest.approx(0.2828427), "num": 2}
    assert entry["over_folds"] == {"mean": pytest.approx(0.5), "sd": pytest.approx(0.1414214), "num": 2}
    assert [(run["seed"], run["fold"], run["objective"]) for run in entry["runs"]] == [
        (0, None, 0.9),
        (1, None, 0.5),
        (0, 0, 0.4),
        (0, 1, 0.6),
    ]


def test_one_run_has_no_spread(tiny_study: StudyConfig, tmp_path: Path) -> None:
    keep_trial(tmp_path, "fcn_ppm", 0, [0.9])
    entry = only(tmp_path, tiny_study).to_json()
    assert (entry["over_seeds"], entry["over_folds"]) == ({"mean": 0.9, "sd": None, "num": 1}, None)


def test_a_folds_network_never_votes(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = repeated(tiny_study, seeds=2, folds=2)
    keep_runs(tmp_path, config, keep_trial(tmp_path, "fcn_ppm", 0, [0.9]), [0.5], [0.4], [0.6])
    assert only(tmp_path, config).members == ("fcn_ppm-0000", "fcn_ppm-0000-seed-1")


def test_a_failed_run_lowers_the_mean_and_does_not_vote(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = repeated(tiny_study, seeds=3)
    keep_runs(tmp_path, config, keep_trial(tmp_path, "fcn_ppm", 0, [0.9]), [], [0.6])
    found = only(tmp_path, config)
    assert (found.members, found.objective) == (("fcn_ppm-0000", "fcn_ppm-0000-seed-2"), pytest.approx(0.5))
    assert found.to_json()["runs"][1]["reason"] == "loss not finite"


def test_digest_changes_with_any_members_weights(tiny_study: StudyConfig, tmp_path: Path) -> None:
    config = repeated(tiny_study, seeds=2)
    keep_runs(tmp_path, config, keep_trial(tmp_path, "fcn_ppm", 0, [0.9]), [0.6])
    alone = only(tmp_path, tiny_study).digest
    both = only(tmp_path, config).digest
    keep_model(tmp_path, "fcn_ppm-0000-seed-1", 0.25)
    changed = only(tmp_path, config).digest
    assert len({alone, both, changed}) == 3 and all(len(digest) == 8 for digest in (alone, both, changed))
    assert only(tmp_path, tiny_study).digest == alone


def test_repeats_for_other_folds_do_not_count(tiny_study: StudyConfig, tmp_path: Path) -> None:
    finalist = keep_trial(tmp_path, "fcn_ppm", 0, [0.9])
    keep_runs(tmp_path, repeated(tiny_study, folds=2), finalist, [0.1], [0.1])
    assert len(only(tmp_path, repeated(tiny_study, folds=3)).runs) == 1
