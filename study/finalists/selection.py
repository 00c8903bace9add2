"""The choice of the winner on the validation patients, kept before the test patients are read.

A choice holds for the candidates that it was made among. Where a study has been extended since and has others, it is
made again; the earlier one stays beside it, since by then the test patients have been read.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from renalnet.runtime import storage
from study.finalists.finalists import OURS, Finalist
from study.records import paths

SELECTION: Final = "selection.json"
_EARLIER: Final = re.compile(r"selection-(\d+)\.json")
_RULE: Final = "mean validation Dice of kidney and tumor, of each configuration's ensemble by full inference"


def fix_winner(results: str, candidates: Sequence[Finalist], scores: Mapping[str, float]) -> str:
    """The winner's name: the one that was fixed among the same candidates, else of ours the one of the best score.

    Args:
        results: the results folder.
        candidates: in the order of their rank, which decides between equal scores.
        scores: mean validation Dice of each.
    """
    path = paths.final_path(results, SELECTION)
    before = storage.read_json(path) if storage.exists(path) else None
    if before is not None:
        if _digests(before) == {candidate.name: candidate.digest for candidate in candidates}:
            return str(before["winner"])
        _put_aside(results, before)
    ours = [candidate.name for candidate in candidates if candidate.network == OURS]
    winner = max(ours, key=lambda name: scores[name])
    about = {candidate.name: candidate.to_json() for candidate in candidates}
    storage.write_json(path, {"winner": winner, "rule": _RULE, "scores": scores, "candidates": about})
    return winner


def earlier_readings(results: str) -> list[str]:
    """A warning where the test patients were read for an earlier choice; the figures are not of a single reading."""
    names = _earlier(results)
    if not names:
        return []
    times = "once" if len(names) == 1 else f"{len(names)} times"
    return [
        f"the test patients had been read {times} before this study was extended (final/{', final/'.join(names)}): "
        "the winner was chosen anew on validation patients, but who extended the study may have seen its test figures"
    ]


def _digests(selection: Mapping[str, Any]) -> dict[str, str]:
    """By candidate; of a choice that an older version has made, nothing."""
    return {name: about["digest"] for name, about in selection.get("candidates", {}).items()}


def _put_aside(results: str, selection: Any) -> None:
    names = _earlier(results)
    if not names or storage.read_json(paths.final_path(results, names[-1])) != selection:
        storage.write_json(paths.final_path(results, f"selection-{len(names) + 1}.json"), selection)


def _earlier(results: str) -> list[str]:
    """Names of the choices put aside, oldest first."""
    found = filter(_EARLIER.fullmatch, storage.list_names(paths.final_folder(results)))
    return sorted(found, key=lambda name: int(name.removesuffix(".json").split("-")[1]))
