"""Writes the page, the tables and the figures of a report into its results folder."""

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from renalnet.runtime.csv_text import to_csv
from renalnet.runtime.log import get_logger
from renalnet.runtime.storage import join, write_bytes
from study.records.content import load_view
from study.report.analysis.contents import Programs, Report, analyse
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import OURS
from study.report.analysis.tables import tables_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from study.report.pictures.overlays import Sprite
    from study.report.pictures.surfaces import Surfaces

    Part = TypeVar("Part", Sprite, Surfaces)

_log = get_logger(__name__)
_MAX_VIEWER_BYTES: Final = 6_500_000
_MAX_SURFACE_BYTES: Final = 3_500_000
"""The page stays below 15 MB with its figures."""
_PICTURES: Final = ("overlays", "worst_case", "gallery")
"""Figures of pixels go into the page as PNG, the others as SVG."""


def write_report(results: str | Path, settings: Settings | None = None, programs: Programs | None = None) -> Report:
    """Read a results folder and write `report.html`, `tables/*.csv` and `figures/*` into it.

    Args:
        results: local path or URI of what `study.run` wrote; the study may still be running.
        settings: of the intervals; the defaults where None.
        programs: others, whose masks are measured too.

    Raises:
        ResultsError, InputError: as of `analyse`.
    """
    from study.report.pages.html import render

    report = analyse(str(results), settings or Settings(), programs)
    for name, rows in tables_of(report).items():
        write_bytes(join(results, "tables", f"{name}.csv"), to_csv(rows))
    charts = _write_figures(str(results), draw_figures(report))
    page = join(results, "report.html")
    write_bytes(page, render(report, charts, draw_sprites(report), draw_surfaces(report)).encode())
    _log.debug("wrote %s", page)
    return replace(report, page=page)


def draw_figures(report: Report) -> dict[str, "Figure"]:
    """The figures that the rows at hand allow, by name."""
    from study.report.pictures import figures, search_figures

    summary, results = report.summary, report.results
    winner = summary.winner.name if summary.winner else ""
    trials = results.trials or []
    is_scored = any(trial.objective is not None and trial.network == OURS for trial in trials)
    drawn: dict[str, Figure] = {}
    if results.epochs:
        drawn["learning_curves"] = figures.learning_curves(results.epochs, trials, winner)
    if is_scored:
        drawn["parallel_coordinates"] = search_figures.parallel_coordinates(trials, winner)
        drawn["trial_overview"] = figures.trial_overview(trials, winner)
    if trials:
        drawn["pruning"] = search_figures.pruning(trials)
    if results.importances:
        drawn["importances"] = search_figures.importance_bars(results.importances)
    if summary.patients:
        drawn["volume_agreement"] = figures.volume_agreement(summary.patients)
    if any(patient.expected_dice is not None for patient in summary.patients):
        drawn["trust"] = figures.trust(summary.patients)
    if summary.patients:
        drawn["patient_dice"] = figures.patient_dice(summary.patients)
    if any(patient.has_tumor for patient in summary.patients):
        drawn["dice_by_volume"] = figures.dice_by_volume(summary.patients)
    return drawn | _draw_pictures(report)


def _draw_pictures(report: Report) -> dict[str, "Figure"]:
    """Of test patients, whose views are there."""
    from study.report.pictures import overlays

    summary, results = report.summary, report.results
    drawn: dict[str, Figure] = {}
    chosen = [pair for pair in overlays.choose_examples(summary.patients) if pair[1] in results.view_cases]
    if chosen:
        examples = [overlays.Example(caption, load_view(results, case)) for caption, case in chosen]
        drawn["overlays"] = overlays.overlay_figure(examples)
        drawn["worst_case"] = overlays.worst_figure(examples[-1])
        shown = [patient for patient in summary.patients if patient.case in results.view_cases][-overlays.MAX_GALLERY :]
        gallery = [
            overlays.Example(f"tumor Dice {patient.dice_tumor:.2f}", load_view(results, patient.case))
            for patient in shown
        ]
        drawn["gallery"] = overlays.gallery_figure(gallery, shown[0].network)
    return drawn


def draw_sprites(report: Report) -> "list[Sprite]":
    """Slices of test patients for the page's viewer, hardest patients first, as many as the page may hold."""
    from study.report.pictures.overlays import sprite

    return _within(_MAX_VIEWER_BYTES, (sprite(load_view(report.results, case)) for case in _hardest_first(report)))


def draw_surfaces(report: Report) -> "list[Surfaces]":
    """Surfaces of test patients by truth and winner, hardest patients first, as many as the page may hold."""
    from study.report.pictures.surfaces import surfaces_of

    network = report.summary.patients[0].network if report.summary.patients else ""
    views = (load_view(report.results, case) for case in _hardest_first(report))
    return _within(_MAX_SURFACE_BYTES, (surfaces_of(view, network) for view in views))


def _hardest_first(report: Report) -> list[str]:
    """Patients with views by rising tumor Dice of the winner; those that it has not measured last."""
    ranked = [patient.case for patient in reversed(report.summary.patients)]
    cases = [case for case in ranked if case in report.results.view_cases]
    return [*cases, *(case for case in report.results.view_cases if case not in cases)]


def _within(most_bytes: int, parts: "Iterable[Part]") -> "list[Part]":
    """The first parts that together are no larger."""
    kept: list[Part] = []
    num_bytes = 0
    for part in parts:
        num_bytes += part.num_bytes
        if num_bytes > most_bytes:
            break
        kept.append(part)
    return kept


def _write_figures(results: str, drawn: dict[str, "Figure"]) -> dict[str, str]:
    """Write each figure as PNG and SVG; returns what the page embeds."""
    from study.report.pictures.overlays import data_uri

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
