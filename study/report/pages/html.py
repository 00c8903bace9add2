"""The page: one file that loads nothing from the network and escapes all text that it is given."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from renalnet.config import LabelSet
from renalnet.config.labels import BACKGROUND_NAME, KIDNEY, TUMOR, Label, listed, with_article
from renalnet.evaluation.rows import KIDNEY_AND_MASS, MASS, SHOWN
from renalnet.planning import STATEMENT, lines_of, value_text
from study.records.tables import IMPORTANCE_CONFIDENCE, IMPORTANCE_LEVEL, WINNER, PlanningSheet
from study.report.analysis.contents import Report
from study.report.analysis.measures import LabelMeans, compared_means
from study.report.analysis.methods import in_order, names_in, short_title_of, stage_title, title_of
from study.report.analysis.paper import FOOTNOTES, NOT_COMPARABLE, where_present
from study.report.analysis.summary import CaseOutcome, final_test_rows, lesions_of, tumor_first
from study.report.pages import number_text
from study.report.pictures.overlays import MAX_GALLERY, Sprite
from study.report.pictures.surfaces import Surfaces

_FILTERS = {
    "mean_sd": number_text.mean_sd,
    "spread": number_text.spread,
    "ensemble": number_text.ensemble,
    "number": number_text.number,
    "paper_dice": number_text.paper_dice,
    "paper_distance": number_text.paper_distance,
    "listed": listed,
    "with_article": with_article,
    "signed": number_text.signed,
    "p_value": number_text.p_value,
    "power": number_text.power,
    "duration": number_text.duration,
    "weights": number_text.weights,
    "counts": number_text.counts,
    "saved": number_text.saved,
    "moment": number_text.moment,
    "method_title": title_of,
    "short_title": short_title_of,
    "stage_title": stage_title,
    "shell": shlex.quote,
    # Jinja's `capitalize` and `lower` change the whole text, names such as HD95 included.
    "lower_first": lambda text: text[:1].lower() + text[1:],
    "upper_first": lambda text: text[:1].upper() + text[1:],
}
_CHALLENGE_TITLES = {KIDNEY_AND_MASS: "kidney and mass", MASS: "mass"}
"""Titles of the classes of the KiTS challenge."""
_VERDICT_CLASSES = {"found": "found", "missed": "missed", "false alarm": "alarm"}
"""CSS class of the badge of a verdict; other verdicts have a plain badge."""


def render(report: Report, charts: Mapping[str, str], sprites: Sequence[Sprite], surfaces: Sequence[Surfaces]) -> str:
    """Return the page as HTML.

    Args:
        report: the content of the page.
        charts: data URIs of the figures that could be drawn, by name.
        sprites: slices of test cases for the viewer; fewer than there are views where the page would grow too large.
        surfaces: surfaces of test cases; likewise.
    """
    return _environment().get_template("page.html").render(**_values(report, charts, sprites, surfaces))


def _values(
    report: Report, charts: Mapping[str, str], sprites: Sequence[Sprite], surfaces: Sequence[Surfaces]
) -> dict[str, Any]:
    """Return the variables of the template."""
    summary = report.summary
    content = report.content
    labels = content.labels
    means = compared_means(final_test_rows(content))
    return {
        "report": report,
        "summary": summary,
        "manifest": content.manifest,
        "chosen": content.selection,
        "winner": summary.winner,
        "standing": summary.winner_standing,
        # Trials without an objective come last.
        "trials": sorted(content.trials or [], key=lambda row: -(row.objective or 0.0)),
        "others": in_order(name for case in summary.cases for name in case.others),
        "label_means": means,
        "measures": _known_measures(means),
        "labels": labels,
        "compared": tumor_first(labels),
        # Their titles are their names.
        "paper_labels": (KIDNEY, TUMOR),
        "lesions": lesions_of(labels),
        "label_titles": {label.name: label.title for label in labels.labels} | _CHALLENGE_TITLES,
        "weight_heads": _weight_heads(labels),
        "charts": charts,
        "sprites": [asdict(sprite) for sprite in sprites],
        "surfaces": [asdict(one) | {"network": _winner_title(summary.cases)} for one in surfaces],
        "script_labels": [_for_scripts(label) for label in labels.labels],
        "titles": {name: title_of(name) for name in names_in(content)},
        "num_surfaces_left_out": len(content.view_cases) - len(surfaces),
        "num_views_left_out": len(content.view_cases) - len(sprites),
        "num_in_gallery": MAX_GALLERY,
        "plans": _sheets_by_case(content.plans),
        "plan_lines": lambda sheet: lines_of(sheet.other_ml),
        "plan_value": lambda line, sheet: value_text(line, sheet, sheet.bounds),
        "statement": STATEMENT,
        "footnotes": FOOTNOTES,
        "not_comparable": NOT_COMPARABLE,
        "where_present": where_present(labels),
        "detections": {found.label: found for found in report.detections if found.method.role == WINNER},
        "importance_percent": round(100 * IMPORTANCE_CONFIDENCE),
        "mistake_percent": round(100 * IMPORTANCE_LEVEL),
        "verdict_class": lambda verdict: _VERDICT_CLASSES.get(verdict, ""),
    }


def _known_measures(means: Sequence[LabelMeans]) -> dict[str, str]:
    """Return the shown measures; one that an earlier version did not write is left out."""
    return {name: title for name, title in SHOWN.items() if any(row.means[name] is not None for row in means)}


def _weight_heads(labels: LabelSet) -> dict[str, str]:
    """Return the headings of the loss weights by name, in the order of `Trial.weights`."""
    heads = {label.name: f"{label.title.capitalize()} weight" for label in reversed(labels.labels)}
    return heads | {BACKGROUND_NAME: "Backgr. weight"}


def _for_scripts(label: Label) -> dict[str, Any]:
    """Return what the scripts of the page need to know about a label."""
    known = {"name": label.name, "title": label.title, "value": label.value, "lesion_of": label.lesion_of}
    return known | {"color": _channels(label.color)}


def _channels(color: str) -> list[int]:
    """Return red, green and blue of `#RRGGBB`, 0 to 255 each."""
    return list(bytes.fromhex(color.removeprefix("#")))


def _winner_title(cases: Sequence[CaseOutcome]) -> str:
    return short_title_of(cases[0].network) if cases else ""


def _sheets_by_case(sheets: Sequence[PlanningSheet]) -> dict[str, list[PlanningSheet]]:
    """Return the planning sheets by case, those of the truth first."""
    found: dict[str, list[PlanningSheet]] = {}
    for sheet in sorted(sheets, key=lambda sheet: (sheet.case, sheet.source != "truth")):
        found.setdefault(sheet.case, []).append(sheet)
    return found


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    # `StrictUndefined` makes a misspelled variable an error; Jinja's default would leave a gap in the page.
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(_FILTERS, pretty=_pretty)
    return environment


def _pretty(value: object) -> str:
    """Return a value, or the JSON in a text, as indented JSON; other text is returned unchanged."""
    try:
        content = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    return json.dumps(content, indent=2, ensure_ascii=False)
