"""The choice of the winner: kept, and made again when a study was extended."""

import json
from pathlib import Path

from support.study_records import TRAIN

from renalnet.config import KIDNEY_TUMOR
from study.finalists.finalists import Finalist, Run
from study.finalists.selection import earlier_readings, fix_winner
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
