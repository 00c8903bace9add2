"""The page: one file that asks nothing of the network and escapes whatever it is given."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from renalnet.planning import ROWS, STATEMENT, value_text
from study.records.tables import PlanningSheet
from study.report.analysis import words
from study.report.analysis.contents import Report
from study.report.analysis.paper import FOOTNOTES, NOT_COMPARABLE
from study.report.analysis.summary import SHORT_TITLES, STAGES, TITLES, CaseOutcome
from study.report.pictures.overlays import MAX_GALLERY, Sprite
from study.report.pictures.surfaces import Surfaces

_FILTERS = {
    "mean_sd": words.mean_sd,
    "spread": words.spread,
    "ensemble": words.ensemble,
    "number": words.number,
    "signed": words.signed,
    "p_value": words.p_value,
    "duration": words.duration,
    "weights": words.weights,
    "counts": words.counts,
    "saved": words.saved,
    "moment": words.moment,
    "shell": shlex.quote,
    "lower_first": lambda text: text[:1].lower() + text[1:],
}
_VERDICT_CLASSES = {"found": "found", "missed": "missed", "false alarm": "alarm"}


def render(report: Report, charts: Mapping[str, str], sprites: Sequence[Sprite], surfaces: Sequence[Surfaces]) -> str:
    """The page as text.

    Args:
        report: what to show.
        charts: data URIs of the figures that could be drawn, by name.
        sprites: slices of test patients for the viewer; fewer than there are views where the page would grow
            too large.
        surfaces: of test patients; likewise.
    """
    summary = report.summary
    network = summary.patients[0].network if summary.patients else ""
    trials = sorted(report.results.trials or [], key=lambda row: -(row.objective or 0.0))
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            summary=summary,
            manifest=report.results.manifest,
            chosen=report.results.selection,
            winner=summary.winner,
            standing=summary.winner_standing,
            trials=trials,
            others=_others(summary.patients),
            charts=charts,
            sprites=[asdict(sprite) for sprite in sprites],
            surfaces=[asdict(one) | {"network": _short_title(network)} for one in surfaces],
            num_surfaces_left_out=len(report.results.view_cases) - len(surfaces),
            plans=_plans(report.results.plans),
            plan_lines=ROWS,
            plan_words=lambda line, sheet: value_text(line, sheet, sheet.bounds),
            statement=STATEMENT,
            num_in_gallery=MAX_GALLERY,
            num_views_left_out=len(report.results.view_cases) - len(sprites),
            titles=TITLES,
            short_titles=SHORT_TITLES,
            stages=STAGES,
            footnotes=FOOTNOTES,
            not_comparable=NOT_COMPARABLE,
            verdict_class=lambda verdict: _VERDICT_CLASSES.get(verdict, ""),
        )
    )


def _short_title(network: str) -> str:
    """A network's short name; another program's is its own."""
    return SHORT_TITLES.get(network, network)


def _others(patients: Sequence[CaseOutcome]) -> list[str]:
    """Networks, rules and programs beside the winner, in the table's order."""
    names = {name for patient in patients for name in patient.others}
    return [*(name for name in TITLES if name in names), *sorted(names - TITLES.keys())]


def _plans(sheets: Sequence[PlanningSheet]) -> dict[str, list[PlanningSheet]]:
    """By case, the truth's first."""
    found: dict[str, list[PlanningSheet]] = {}
    for sheet in sorted(sheets, key=lambda sheet: (sheet.case, sheet.source != "truth")):
        found.setdefault(sheet.case, []).append(sheet)
    return found


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(_FILTERS, pretty=_pretty)
    return environment


def _pretty(value: object) -> str:
    """Indented JSON of a value, or of the JSON in a text; other text as it is."""
    try:
        content = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    return json.dumps(content, indent=2, ensure_ascii=False)
