"""The page: one file that asks nothing of the network and escapes whatever it is given."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.report import words
from study.report.contents import Report
from study.report.overlays import Sprite
from study.report.paper import FOOTNOTES, NOT_COMPARABLE
from study.report.summary import SHORT_TITLES, STAGES, TITLES

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


def render(report: Report, charts: Mapping[str, str], sprites: Sequence[Sprite]) -> str:
    """The page as text.

    Args:
        report: what to show.
        charts: data URIs of the figures that could be drawn, by name.
        sprites: slices of test patients for the viewer; fewer than there are views where the page would grow
            too large.
    """
    summary = report.summary
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
            others=[name for name in TITLES if any(name in row.others for row in summary.patients)],
            charts=charts,
            sprites=[asdict(sprite) for sprite in sprites],
            num_views_left_out=len(report.results.view_cases) - len(sprites),
            titles=TITLES,
            short_titles=SHORT_TITLES,
            stages=STAGES,
            footnotes=FOOTNOTES,
            not_comparable=NOT_COMPARABLE,
            verdict_class=lambda verdict: _VERDICT_CLASSES.get(verdict, ""),
        )
    )


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
