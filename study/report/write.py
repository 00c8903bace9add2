"""Writes the page, the tables and the figures of a report into its results folder."""

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from renalnet.log import get_logger
from renalnet.storage import join, write_bytes
from study.report.contents import Report, analyse
from study.report.rows import load_view
from study.report.statistics import Settings
from study.report.tables import tables_of, to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from study.report.overlays import Sprite

_log = get_logger(__name__)
_MAX_VIEWER_BYTES: Final = 10_500_000
"""The page stays below 15 MB with its figures."""
_PICTURES: Final = ("overlays",)
"""Figures of pixels go into the page as PNG, the others as SVG."""


def write_report(results: str | Path, settings: Settings | None = None) -> Report:
    """Read a results folder and write `report.html`, `tables/*.csv` and `figures/*` into it.

    Args:
        results: local path or URI of what `study.run` wrote; the study may still be running.
        settings: of the intervals; the defaults where None.

    Raises:
        ResultsError: this is no results folder, or a file in it is damaged.
    """
    from study.report.html import render

    report = analyse(str(results), settings or Settings())
    for name, rows in tables_of(report).items():
        write_bytes(join(results, "tables", f"{name}.csv"), to_csv(rows))
    charts = _write_figures(str(results), draw_figures(report))
    page = join(results, "report.html")
    write_bytes(page, render(report, charts, draw_sprites(report)).encode())
    _log.debug("wrote %s", page)
    return replace(report, page=page)


def draw_figures(report: Report) -> dict[str, "Figure"]:
    """The figures that the rows at hand allow, by name."""
    from study.report import figures, overlays

    summary, results = report.summary, report.results
    winner = summary.winner.name if summary.winner else ""
    drawn: dict[str, Figure] = {}
    if results.epochs:
        drawn["learning_curves"] = figures.learning_curves(results.epochs, results.trials or [], winner)
    if any(trial.objective is not None and trial.network == "fcn_ppm" for trial in results.trials or []):
        drawn["trial_overview"] = figures.trial_overview(results.trials or [], winner)
    if summary.patients:
        drawn["patient_dice"] = figures.patient_dice(summary.patients)
    if any(patient.has_tumor for patient in summary.patients):
        drawn["dice_by_volume"] = figures.dice_by_volume(summary.patients)
    chosen = [pair for pair in overlays.choose_examples(summary.patients) if pair[1] in results.view_cases]
    if chosen:
        examples = [overlays.Example(caption, load_view(results, case)) for caption, case in chosen]
        drawn["overlays"] = overlays.overlay_figure(examples)
    return drawn


def draw_sprites(report: Report) -> "list[Sprite]":
    """Slices of test patients for the page's viewer, hardest patients first, as many as the page may hold."""
    from study.report.overlays import sprite

    ranked = [patient.case for patient in reversed(report.summary.patients)]
    cases = [case for case in ranked if case in report.results.view_cases]
    drawn, num_bytes = [], 0
    for case in [*cases, *(case for case in report.results.view_cases if case not in cases)]:
        picture = sprite(load_view(report.results, case))
        num_bytes += picture.num_bytes
        if num_bytes > _MAX_VIEWER_BYTES:
            break
        drawn.append(picture)
    return drawn


def _write_figures(results: str, drawn: dict[str, "Figure"]) -> dict[str, str]:
    """Write each figure as PNG and SVG; returns what the page embeds."""
    from study.report.overlays import data_uri

    embedded = {}
    for name, figure in drawn.items():
        png, svg = _as_bytes(figure, "png"), _as_bytes(figure, "svg")
        write_bytes(join(results, "figures", f"{name}.png"), png)
        write_bytes(join(results, "figures", f"{name}.svg"), svg)
        is_picture = name in _PICTURES
        embedded[name] = data_uri(png, "image/png") if is_picture else data_uri(svg, "image/svg+xml")
    return embedded


def _as_bytes(figure: "Figure", kind: str) -> bytes:
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "renalnet"}):  # the same rows give the same file
        figure.savefig(stream, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return stream.getvalue()
