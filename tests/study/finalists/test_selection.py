"""The choice of the winner: kept, and made again when a study was extended."""

import json
from dataclasses import replace
from pathlib import Path

from support.study_records import TRAIN

from renalnet.config import KIDNEY_TUMOR, override
from study.config.presets import quick
from study.finalists.finalists import Finalist, Run
from study.finalists.selection import earlier_readings, fix_winner, folds_to_choose_by
from study.records.documents import read_selection
from study.records.results import Results
from study.records.trials import TrialRecord


def finalist(name: str, objective: float, digest: str = "0", network: str = "fcn_ppm") -> Finalist:
    record = TrialRecord(int(name[-1]), network, "complete", {}, TRAIN)
    return Finalist(network, name, (Run(record, objective, has_model=True),), digest)


FIRST = finalist("fcn_ppm-0001", 0.8)
SECOND = finalist("fcn_ppm-0002", 0.7)
BASELINE = finalist("unet3d-0000", 0.9, network="unet3d")
SCORES = {"fcn_ppm-0001": 0.5, "fcn_ppm-0002": 0.6, "unet3d-0000": 0.7}


def fixed(folder: Path, finalists: list[Finalist], scores: dict[str, float]) -> str:
    """Return the name of the winner that is fixed in a results folder."""
    return fix_winner(Results(str(folder)), finalists, scores, KIDNEY_TUMOR)


def test_the_main_network_with_the_best_score_wins(tmp_path: Path) -> None:
    assert fixed(tmp_path, [FIRST, SECOND, BASELINE], SCORES) == "fcn_ppm-0002"
    kept = json.loads((tmp_path / "final" / "selection.json").read_text())
    assert (kept["winner"], kept["scores"]) == ("fcn_ppm-0002", SCORES)
    assert kept["candidates"]["fcn_ppm-0001"]["over_seeds"] == {"mean": 0.8, "sd": None, "num": 1}
    assert earlier_readings(Results(str(tmp_path))) == []


def on_folds(name: str, *objectives: float) -> Finalist:
    """A finalist whose run of the search reached 0.9, and those on folds the given objectives."""
    record = TrialRecord(int(name[-1]), "fcn_ppm", "complete", {}, TRAIN)
    folds = [replace(record, repeat_of=name, fold=fold, num_folds=2) for fold in range(len(objectives))]
    runs = [Run(one, value, has_model=True) for one, value in zip(folds, objectives, strict=True)]
    return Finalist("fcn_ppm", name, (Run(record, 0.9, has_model=True), *runs), "0")


def test_few_validation_cases_leave_the_choice_to_folds(tmp_path: Path) -> None:
    """The validation cases would choose the second one. A number of folds is a choice of its own."""
    study = override(quick(), ["final.folds=2"])
    assert [folds_to_choose_by(study, number) for number in (4, 5)] == [2, 0]
    assert folds_to_choose_by(quick(), 1) == 0
    finalists = [on_folds("fcn_ppm-0001", 0.6, 0.8), on_folds("fcn_ppm-0002", 0.5, 0.8), BASELINE]
    assert fixed(tmp_path, finalists, SCORES) == "fcn_ppm-0002"
    results = Results(str(tmp_path))
    assert fix_winner(results, finalists, SCORES, KIDNEY_TUMOR, num_folds=2) == "fcn_ppm-0001"
    kept = read_selection(results.selection_path)
    assert kept.num_folds == 2 and (tmp_path / "final" / "selection-1.json").exists()
    assert "over 2 folds" in json.loads((tmp_path / "final" / "selection.json").read_text())["rule"]
    assert fix_winner(results, finalists[::-1], SCORES, KIDNEY_TUMOR, num_folds=2) == "fcn_ppm-0001"


def test_equal_scores_are_decided_by_rank(tmp_path: Path) -> None:
    assert fixed(tmp_path, [FIRST, SECOND], dict.fromkeys(SCORES, 0.5)) == "fcn_ppm-0001"


def test_a_winner_is_kept_among_the_same_finalists(tmp_path: Path) -> None:
    fixed(tmp_path, [FIRST, SECOND], SCORES)
    other = {**SCORES, "fcn_ppm-0001": 0.9}
    assert fixed(tmp_path, [SECOND, FIRST], other) == "fcn_ppm-0002"
    assert earlier_readings(Results(str(tmp_path))) == []


def test_the_choice_is_repeated_among_other_finalists_or_weights(tmp_path: Path) -> None:
    final = tmp_path / "final"
    scores = {**SCORES, "fcn_ppm-0003": 0.9}
    fixed(tmp_path, [FIRST, SECOND], SCORES)
    longer = finalist("fcn_ppm-0001", 0.8, digest="1")
    assert fixed(tmp_path, [longer, SECOND], {**SCORES, "fcn_ppm-0001": 0.65}) == "fcn_ppm-0001"
    (once,) = earlier_readings(Results(str(tmp_path)))
    assert "read once before this study was extended (final/selection-1.json)" in once
    assert fixed(tmp_path, [longer, finalist("fcn_ppm-0003", 0.6)], scores) == "fcn_ppm-0003"
    winners = [json.loads((final / f"selection{n}.json").read_text())["winner"] for n in ("-1", "-2", "")]
    assert winners == ["fcn_ppm-0002", "fcn_ppm-0001", "fcn_ppm-0003"]
    (twice,) = earlier_readings(Results(str(tmp_path)))
    assert "read 2 times" in twice and "final/selection-1.json, final/selection-2.json" in twice


def test_a_kill_during_a_repeated_choice_keeps_one_copy_of_the_earlier_one(tmp_path: Path) -> None:
    fixed(tmp_path, [FIRST, SECOND], SCORES)
    before = (tmp_path / "final" / "selection.json").read_bytes()
    (tmp_path / "final" / "selection-1.json").write_bytes(before)  # as left by a process that was killed
    fixed(tmp_path, [FIRST], SCORES)
    assert sorted(path.name for path in (tmp_path / "final").iterdir()) == ["selection-1.json", "selection.json"]


def test_a_choice_by_an_earlier_version_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "selection.json").write_text(json.dumps({"winner": "fcn_ppm-0007", "scores": {}}))
    assert fixed(tmp_path, [FIRST], SCORES) == "fcn_ppm-0001"
    assert len(earlier_readings(Results(str(tmp_path)))) == 1
