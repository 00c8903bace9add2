"""The report as text that other programs take: Markdown, JSON and CSV."""

import json
from collections.abc import Sequence
from typing import Any, Final

from renalnet.runtime.csv_text import to_csv
from study.report.analysis import words
from study.report.analysis.contents import Report
from study.report.analysis.paper import NOT_COMPARABLE
from study.report.analysis.statistics import Estimate
from study.report.analysis.summary import STAGES, Margin, Standing
from study.report.analysis.tables import tables_of

_LONG: Final = ("trials", "repeats", "learning_curves", "patient_dice")
"""Tables that lie beside the report as CSV; a summary is without them."""
_MEASURES: Final = ("Dice kidney", "Dice tumor", "distance kidney (px)", "distance tumor (px)")


def as_json(report: Report) -> str:
    """The state of the study, its winner, and the tables but those of single epochs, trials and patients' networks."""
    summary, manifest = report.summary, report.results.manifest
    content: dict[str, Any] = {
        "study": manifest.study,
        "finished": manifest.finished,
        "synthetic": manifest.data.synthetic,
        "fingerprint": manifest.data.fingerprint,
        "winner": summary.winner.name if summary.winner else None,
        "states": summary.states,
        "hours": {"wall": summary.hours.wall, "gpu": summary.hours.gpu, "cpu": summary.hours.cpu},
        "missing": summary.missing,
        "warnings": list(manifest.warnings),
        "tables": {name: rows for name, rows in tables_of(report).items() if name not in _LONG},
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_csv(report: Report) -> str:
    """Table I; nothing before a test patient has been measured."""
    rows = tables_of(report).get("table_one")
    return to_csv(rows).decode().rstrip("\n") if rows else ""


def as_markdown(report: Report) -> str:
    """The headline, Table I, the paired differences and the stages, for a notebook or a message."""
    summary, manifest = report.summary, report.results.manifest
    lines = [f"# Study {_escaped(manifest.study)}", ""]
    lines += ["**Synthetic images**: painted, not scanned.", ""] if manifest.data.synthetic else []
    lines += [f"- not there yet: {_escaped(sentence)}" for sentence in summary.missing]
    if summary.winner:
        about = f"{summary.winner.name}: {words.configuration(summary.winner)}"
        lines += ["", f"{'Best trial so far' if summary.is_provisional else 'Winner'}: {_escaped(about)}", ""]
    if summary.standings:
        rows = [[row.method.title, *_values(row)] for row in summary.standings]
        lines += [*_table(["mean ± sd", *_MEASURES], rows), "", f"{NOT_COMPARABLE}", ""]
    if summary.margins:
        margins = [_margin(margin) for margin in summary.margins]
        lines += [*_table(["winner less", "label", "Dice (interval)", "p, Holm", "rank-biserial r"], margins), ""]
    if summary.stages:
        stages = [[STAGES.get(row.stage, row.stage), *_values(row)] for row in summary.stages]
        lines += [*_table(["stage of the winner", *_MEASURES], stages), ""]
    return "\n".join([*lines, f"Trials: {words.counts(summary.states)}"])


def _margin(margin: Margin) -> list[str]:
    difference = margin.difference
    tested = [words.p_value(margin.p_holm), f"{difference.rank_biserial:+.2f}"]
    return [margin.other.title, margin.label, words.signed(difference), *tested]


def _values(row: Standing) -> list[str]:
    dice: Sequence[Estimate] = (row.dice_kidney, row.dice_tumor)
    distances: Sequence[Estimate] = (row.distance_kidney_px, row.distance_tumor_px)
    return [*(words.mean_sd(value) for value in dice), *(words.mean_sd(value, 2) for value in distances)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(map(_escaped, cells))} |" for cells in lines]


def _escaped(text: str) -> str:
    """Names may hold what Markdown or HTML takes for markup."""
    for character in "\\|<>[]*_`":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
