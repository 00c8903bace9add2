"""Faults over the life of tiny studies: how many a study survives, names, and loses work by."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from renalnet.errors import ResultsError
from renalnet.runtime.log import get_logger
from study.bench.faults.damages import damage_verdicts
from study.bench.faults.kills import Undisturbed, kill_verdicts
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row
from study.bench.measuring.tiny_study import Verdict, wait, write_tiny_study

_FIRST_S: Final = 900.0
"""Time that the undisturbed study may take."""
_log = get_logger(__name__)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Run the campaign: one study without faults, kills and full disks during others, and damages of copies of it.

    Raises:
        ResultsError: the undisturbed study failed.
    """
    yield from campaign(undisturbed_study(folder), size, folder)


def undisturbed_study(folder: Path) -> Undisturbed:
    """Run a tiny study without faults. Raises ResultsError where it fails."""
    study = write_tiny_study(folder)
    results = folder / "undisturbed"
    began = time.monotonic()
    ended = wait(study.start(results), _FIRST_S)
    if ended.code:
        raise ResultsError(f"the study without faults failed: {' '.join(ended.said)}; run study.run by itself")
    return Undisturbed(study, results, time.monotonic() - began)


def campaign(undisturbed: Undisturbed, size: Size, folder: Path) -> Iterator[Row]:
    """Yield a row for the faults of each result, one for each lost one with its reason, and the counts of losses."""
    began = time.monotonic()
    verdicts: list[Verdict] = []
    for verdict in _verdicts(undisturbed, size, folder):
        _log.info("%d: %s", len(verdicts) + 1, verdict)
        verdicts.append(verdict)
    yield from _summary(verdicts)
    yield Row("faults", "duration", "min", (time.monotonic() - began) / 60, better="less", note=f"seed {size.seed}")


def _verdicts(undisturbed: Undisturbed, size: Size, folder: Path) -> Iterator[Verdict]:
    yield from kill_verdicts(undisturbed, folder / "killed", size.kills, size.seed)
    yield from damage_verdicts(undisturbed, folder / "damaged", size.damages, size.damages_by_command, size.seed)


def _summary(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    results = Counter(verdict.result for verdict in verdicts)
    yield Row("faults", "survived", "faults", results["survived"], note="the study ends as without the fault")
    yield Row("faults", "named", "faults", results["named"], note="no other copy: the command stops in one line")
    yield Row("faults", "lost", "faults", results["lost"], better="less")
    for verdict in verdicts:
        if verdict.result == "lost":
            yield Row("faults", f"lost: {verdict.fault}", "faults", 1, better="less", note=verdict.why)
    for what, count in (
        ("finished trials lost", sum(verdict.num_lost for verdict in verdicts)),
        ("other winners", sum(verdict.is_other_winner for verdict in verdicts)),
        ("tracebacks", sum(verdict.has_traceback for verdict in verdicts)),
        ("silent repairs", sum(verdict.is_silent for verdict in verdicts)),
    ):
        yield Row("faults", what, "", count, better="less")
