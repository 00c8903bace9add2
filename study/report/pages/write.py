"""Writes the page, the tables and the figures of a report into its results folder."""

import io
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from renalnet.config.networks import MAIN_NETWORK
from renalnet.runtime.csv_text import to_csv
from renalnet.runtime.log import get_logger
from renalnet.runtime.storage import write_bytes
from study.records.content import load_view
from study.records.results import Results
from study.report.analysis.contents import Programs, Report, analyse
from study.report.analysis.methods import Looks, names_in
from study.report.analysis.statistics import Settings
from study.report.analysis.tables import tables_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from study.report.pictures.overlays import Sprite
    from study.report.pictures.surfaces import Surfaces

    Part = TypeVar("Part", Sprite, Surfaces)

_log = get_logger(__name__)
# With these limits the page stays below 15 MB, figures included.
_MAX_VIEWER_BYTES: Final = 6_500_000
_MAX_SURFACE_BYTES: Final = 3_500_000
_PICTURES: Final = ("overlays", "worst_case", "gallery")
"""Figures of pixels, which the page embeds as PNG; it embeds the others as SVG."""
_DOTS_PER_INCH: Final = 150


def write_report(results: Results, settings: Settings | None = None, programs: Programs | None = None) -> Report:
    """Read a results folder and write `report.html`, `tables/*.csv` and `figures/*` into it.

    Args:
        results: the folder that `study.run` wrote; the study may still be running.
        settings: how intervals are computed; None for the defaults.
        programs: other programs whose masks are measured as well.

    Raises:
        ResultsError: the folder is not a results folder, a file in it is damaged, or its store was not found.
        InputError: masks of a program cannot be read or compared.
    """
    # Rendering imports Matplotlib for the pictures, which `--no-write` does not need.
    from study.report.pages.html import render

    report = analyse(results, settings or Settings(), programs)
    for name, rows in tables_of(report).items():
        write_bytes(results.table_path(name), to_csv(rows))
    charts = _write_figures(results, draw_figures(report))
    write_bytes(results.page_path, render(report, charts, draw_sprites(report), draw_surfaces(report)).encode())
    _log.debug("wrote %s", results.page_path)
    return replace(report, page=results.page_path)


def draw_figures(report: Report) -> dict[str, "Figure"]:
    """Return the figures for which there are rows, by name."""
    looks = Looks(names_in(report.content))
    return _draw_search(report, looks) | _draw_cases(report, looks) | _draw_pictures(report)


def _draw_search(report: Report, looks: Looks) -> dict[str, "Figure"]:
    from study.report.pictures import figures, search_figures

    content = report.content
    winner = report.summary.winner.name if report.summary.winner else ""
    trials = content.trials or []
    drawn: dict[str, Figure] = {}
    if content.epochs:
        drawn["learning_curves"] = figures.learning_curves(content.epochs, trials, winner, looks)
    if any(trial.objective is not None and trial.network == MAIN_NETWORK for trial in trials):
        drawn["parallel_coordinates"] = search_figures.parallel_coordinates(trials, winner)
        drawn["trial_overview"] = figures.trial_overview(trials, winner)
    if trials:
        drawn["pruning"] = search_figures.pruning(trials)
    return drawn | _draw_learned(report, looks)


def _draw_learned(report: Report, looks: Looks) -> dict[str, "Figure"]:
    from study.report.pictures import search_figures

    learned = report.learned
    drawn: dict[str, Figure] = {}
    if learned.importances:
        drawn["importances"] = search_figures.importance_bars(learned.importances, looks)
    if learned.effects:
        drawn["effects"] = search_figures.marginal_effects(learned.effects)
    if learned.interaction:
        drawn["interaction"] = search_figures.interaction(learned.interaction)
    return drawn


def _draw_cases(report: Report, looks: Looks) -> dict[str, "Figure"]:
    from study.report.pictures import figures

    cases = report.summary.cases
    drawn: dict[str, Figure] = {}
    if cases:
        drawn["volume_agreement"] = figures.volume_agreement(cases, looks, report.content.labels)
    if any(case.expected_dice is not None for case in cases):
        drawn["trust"] = figures.trust(cases, looks)
    if cases:
        drawn["patient_dice"] = figures.case_dice(cases, looks, report.content.labels)
    if any(any(case.present.values()) for case in cases):
        drawn["dice_by_volume"] = figures.dice_by_volume(cases, looks, report.content.labels)
    return drawn


def _draw_pictures(report: Report) -> dict[str, "Figure"]:
    """Return the figures of test cases that have a view."""
    from study.report.pictures import overlays

    content = report.content
    cases = [case for case in report.summary.cases if case.case in content.view_cases]
    chosen = [pair for pair in overlays.choose_examples(report.summary.cases) if pair[1] in content.view_cases]
    if not chosen:
        return {}
    examples = [overlays.Example(caption, load_view(content, case)) for caption, case in chosen]
    # The cases come by falling Dice, so the hardest ones are last.
    shown = cases[-overlays.MAX_GALLERY :]
    gallery = [overlays.Example(f"tumor Dice {case.dice_tumor:.2f}", load_view(content, case.case)) for case in shown]
    return {
        "overlays": overlays.overlay_figure(examples, content.labels),
        "worst_case": overlays.worst_figure(examples[-1], content.labels),
        "gallery": overlays.gallery_figure(gallery, shown[0].network, content.labels),
    }


def draw_sprites(report: Report) -> "list[Sprite]":
    """Return slices of test cases for the page's viewer, the hardest cases first, as many as the page may hold."""
    from study.report.pictures.overlays import sprite

    # A generator, so that no view is read after the page is full.
    views = (load_view(report.content, case) for case in _hardest_first(report))
    return _within(_MAX_VIEWER_BYTES, (sprite(view, report.content.labels) for view in views))


def draw_surfaces(report: Report) -> "list[Surfaces]":
    """Return surfaces of test cases by truth and winner, the hardest cases first, as many as the page may hold."""
    from study.report.pictures.surfaces import surfaces_of

    network = report.summary.cases[0].network if report.summary.cases else ""
    views = (load_view(report.content, case) for case in _hardest_first(report))
    return _within(_MAX_SURFACE_BYTES, (surfaces_of(view, network, report.content.labels) for view in views))


def _hardest_first(report: Report) -> list[str]:
    """Return the cases with views by rising tumor Dice of the winner; cases that it did not measure come last."""
    ranked = [case.case for case in reversed(report.summary.cases)]
    cases = [case for case in ranked if case in report.content.view_cases]
    return [*cases, *(case for case in report.content.view_cases if case not in cases)]


def _within(most_bytes: int, parts: "Iterable[Part]") -> "list[Part]":
    """Return the first parts that together have at most `most_bytes`."""
    kept: list[Part] = []
    num_bytes = 0
    for part in parts:
        num_bytes += part.num_bytes
        # No smaller part is looked for, so that the kept ones are the hardest cases.
        if num_bytes > most_bytes:
            break
        kept.append(part)
    return kept


def _write_figures(results: Results, drawn: dict[str, "Figure"]) -> dict[str, str]:
    """Write each figure as PNG and SVG, and return the data URI of each for the page."""
    from study.report.pictures.overlays import data_uri

    embedded = {}
    for name, figure in drawn.items():
        png = _as_png(figure)
        svg = _as_svg(figure)
        write_bytes(results.figure_path(name, "png"), png)
        write_bytes(results.figure_path(name, "svg"), svg)
        embedded[name] = data_uri(png, "image/png") if name in _PICTURES else data_uri(svg, "image/svg+xml")
    return embedded


def _as_png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    figure.set_dpi(_DOTS_PER_INCH)
    # `Figure.savefig` arranges and draws each figure twice a file, which would take most of a report's time.
    FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")  # it is arranged
    return stream.getvalue()


def _as_svg(figure: "Figure") -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "renalnet"}):  # the same rows give the same file
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return stream.getvalue()
