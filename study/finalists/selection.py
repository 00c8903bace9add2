"""The choice of the winner on the validation cases, written before the test cases are read.

A choice holds for the finalists among which it was made. If a study is extended later and has other finalists, the
winner is chosen again. The earlier choice is kept beside the new one, because the test cases have been read by then.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from renalnet.config import MAIN_NETWORK, LabelSet
from renalnet.config.labels import listed
from renalnet.data.cases.splits import MIN_VALIDATION
from renalnet.runtime import storage
from study.config.sections import StudyConfig
from study.finalists.finalists import Finalist
from study.records.files import read_object
from study.records.ledger import Ledger
from study.records.results import Results

_SELECTION: Final = "final/selection.json"
_RULE: Final = "mean validation Dice of {}, of each configuration's ensemble by full inference"
_RULE_OF_FOLDS: Final = "mean objective over {} folds of the training and validation cases"


def folds_to_choose_by(config: StudyConfig, num_validation: int) -> int:
    """Return the folds that choose the winner where there are too few validation cases; 0 where those choose it."""
    return config.final.folds if num_validation < MIN_VALIDATION else 0


def fix_winner(
    results: Results,
    finalists: Sequence[Finalist],
    scores: Mapping[str, float],
    labels: LabelSet,
    *,
    num_folds: int = 0,
) -> str:
    """Return the winner's name and write the choice.

    If a choice among the same finalists was written before, its winner is returned. Otherwise the winner is the
    finalist of 3D_FCN_PPM with the highest score.

    Args:
        results: the results folder.
        finalists: in the order of their rank, which decides between equal scores.
        scores: mean validation Dice by finalist, 0 to 1.
        labels: labels of the study.
        num_folds: folds whose mean objective is the score instead; 0 to choose by `scores`.
    """
    path = results.selection_path
    before = read_object(path) if storage.exists(path) else None
    if before is not None:
        digests = {finalist.name: finalist.digest for finalist in finalists}
        if _digests(before) == digests and before.get("num_folds", 0) == num_folds:
            return str(before["winner"])
        # Before the new choice overwrites it, so that no kill can lose the earlier one.
        _put_aside(results, before)
    ours = [finalist for finalist in finalists if finalist.network == MAIN_NETWORK]
    winner = max(ours, key=lambda one: one.fold_objective if num_folds else scores[one.name]).name
    rule = _rule(labels, num_folds)
    by_folds = {"num_folds": num_folds} if num_folds else {}
    entries = {finalist.name: finalist.to_json() for finalist in finalists}
    ledger = Ledger(results)
    ledger.drop([_SELECTION])
    storage.write_json(path, {"winner": winner, "rule": rule, **by_folds, "scores": scores, "candidates": entries})
    names = [_SELECTION, *(f"final/{name}" for name in results.earlier_selections())]
    ledger.add(names)
    ledger.keep_copies(names)
    return winner


def earlier_readings(results: Results) -> list[str]:
    """Return a warning if the test cases were read for an earlier choice; empty if they were read once."""
    names = results.earlier_selections()
    if not names:
        return []
    times = "once" if len(names) == 1 else f"{len(names)} times"
    return [
        f"the test cases had been read {times} before this study was extended (final/{', final/'.join(names)}): "
        "the winner was chosen again on validation cases, but whoever extended the study may have seen test results"
    ]


def _rule(labels: LabelSet, num_folds: int) -> str:
    titles = listed([label.title for label in labels.labels])
    return _RULE_OF_FOLDS.format(num_folds) if num_folds else _RULE.format(titles)


def _digests(selection: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each finalist; empty for a choice by an earlier version, which wrote none."""
    return {name: entry["digest"] for name, entry in selection.get("candidates", {}).items()}


def _put_aside(results: Results, selection: Any) -> None:
    """Write an earlier choice under the next free name, unless it was written before the process was killed."""
    names = results.earlier_selections()
    if not names or storage.read_json(results.earlier_selection_path(names[-1])) != selection:
        storage.write_json(results.earlier_selection_path(f"selection-{len(names) + 1}.json"), selection)
