"""Charts of the search, each a pure function of rows.

Trials are drawn as collections of Matplotlib, because thousands of single lines would take minutes.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from renalnet.config.labels import BACKGROUND_NAME, TUMOR
from renalnet.config.networks import MAIN_NETWORK
from study.records.tables import IMPORTANT, Effect, Importance, InteractionCell, Trial
from study.report.analysis.learned import parameter_title
from study.report.analysis.methods import LOOKS, Looks, in_order
from study.report.analysis.palette import FAINT, INK, PAGE, STATE_COLORS
from study.report.pictures.figures import first_axes, further_weights, legend, tidy, weight_title
from study.search.rungs import saved_by_pruning

# Gray, because the color of a network is left to its winner; the lightest grays are not seen on a white page.
_MAP: Final = ListedColormap(colormaps["Greys"](np.linspace(0.25, 0.9, 256)))
_PANELS: Final = 3
"""Panels in a row of a figure."""
_MARKERS: Final = "osD^v<>"
_MOST_NAMES: Final = 12
"""Number of names on an axis; of more names only every second, third, … is written."""


def parallel_coordinates(trials: Sequence[Trial], winner: str) -> Figure:
    """Draw one line per 3D_FCN_PPM trial through its searched values to its best objective, which gives its color.

    The winner is bold.
    """
    scored = [trial for trial in trials if trial.objective is not None and trial.network == MAIN_NETWORK]
    # The weight of kidney has no column, because it is always 1 in the search space.
    columns: dict[str, Sequence[str | float | None]] = {
        "pooling\nkernels": [trial.ppm_kernels or "none" for trial in scored],
        "weight\nof tumor": [trial.weights.get(TUMOR) for trial in scored],
        "weight of\nbackground": [trial.weights.get(BACKGROUND_NAME) for trial in scored],
        **{
            weight_title(name).replace(" of ", " of\n"): [trial.weights.get(name) for trial in scored]
            for name in further_weights(scored)
        },
        "milestones\n(epochs)": [trial.milestones or "none" for trial in scored],
        "objective": [trial.objective for trial in scored],
    }
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    axes = figure.subplots()
    places = np.stack([_column(axes, x, title, values) for x, (title, values) in enumerate(columns.items())], axis=1)
    objectives = np.array([trial.objective or 0.0 for trial in scored])
    scale = Normalize(float(objectives.min()), max(float(objectives.max()), float(objectives.min()) + 1e-6))
    _draw_lines(axes, places, objectives, scale)
    for line in (places[index] for index, trial in enumerate(scored) if trial.name == winner):
        axes.plot(np.arange(len(columns)), line, color=LOOKS[MAIN_NETWORK].color, linewidth=3, zorder=4)
    _name_columns(axes, list(columns))
    figure.colorbar(ScalarMappable(scale, _MAP), ax=axes, label="best objective", pad=0.01)
    legend(figure, [Line2D([], [], color=LOOKS[MAIN_NETWORK].color, linewidth=3, label="winner")])
    return figure


def _draw_lines(axes: Axes, places: np.ndarray, objectives: np.ndarray, scale: Normalize) -> None:
    """Draw one line per row of `places` (trials, columns), the best trial on top; many lines are fainter."""
    order = np.argsort(objectives)
    lines = [np.column_stack([np.arange(places.shape[1]), places[index]]) for index in order]
    # Together the lines are as dark as 30 opaque ones; the lower bound keeps a single line visible.
    alpha = float(np.clip(30 / len(lines), 0.12, 0.85))
    axes.add_collection(LineCollection(lines, colors=_MAP(scale(objectives[order])), alpha=alpha))


def _name_columns(axes: Axes, titles: Sequence[str]) -> None:
    axes.set_xlim(-0.35, len(titles) - 0.5)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(titles)), titles)


def _column(axes: Axes, x: int, title: str, values: Sequence[str | float | None]) -> np.ndarray:
    """Draw an axis with its marks, and return the place of each value on it, 0 to 1.

    Names are in alphabetical order, weights on a logarithmic scale.
    """
    axes.axvline(x, color=INK, linewidth=0.8, zorder=3)
    names = sorted({value for value in values if isinstance(value, str)})
    if names:
        marks = {name: index / max(1, len(names) - 1) for index, name in enumerate(names)}
        stride = -(-len(names) // _MOST_NAMES)
        _marks(axes, x, {name: marks[name] for name in names[::stride]})
        return np.array([marks[value] for value in values if isinstance(value, str)])
    return _number_column(axes, x, title, values)


def _number_column(axes: Axes, x: int, title: str, values: Sequence[str | float | None]) -> np.ndarray:
    numbers = np.array([np.nan if value is None else float(value) for value in values if not isinstance(value, str)])
    scaled = np.log(numbers) if title != "objective" else numbers
    low = float(np.nanmin(scaled))
    high = float(np.nanmax(scaled))
    inverse = np.exp if title != "objective" else np.asarray
    # A set, because the three are one where all trials have the same value.
    shown = sorted({low, (low + high) / 2, high})
    _marks(axes, x, {f"{float(inverse(value)):.3g}": (value - low) / ((high - low) or 1.0) for value in shown})
    return (scaled - low) / ((high - low) or 1.0)


def _marks(axes: Axes, x: int, marks: dict[str, float]) -> None:
    for name, height in marks.items():
        text = axes.annotate(name, (x, height), xytext=(4, 0), textcoords="offset points", fontsize=7.5, va="center")
        # A `$` in a name does not start a formula.
        text.set_parse_math(False)
        # The marks lie over all lines, the winner's (zorder 4) included, and must stay readable.
        text.set_bbox({"facecolor": PAGE, "alpha": 0.7, "edgecolor": "none", "pad": 0.8})
        text.set_zorder(5)


def importance_bars(importances: Sequence[Importance], looks: Looks) -> Figure:
    """Draw how much of the objective each searched parameter explains, with its interval, one panel per network.

    Bars of parameters that are not shown to be important are faint.

    Args:
        importances: rows with an importance; one or more.
        looks: colors of the networks.
    """
    networks = in_order(row.network for row in importances)
    tallest = max(sum(row.network == name for row in importances) for name in networks)
    figure = Figure(figsize=(8.6, 0.9 + 0.32 * tallest), layout="constrained")
    for axes, network in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
        rows = [row for row in importances if row.network == network]
        # `barh` draws upwards, so the largest importance is on top.
        _draw_importances(axes, sorted(rows, key=lambda row: row.importance or 0.0), looks[network].color)
        title = f"{looks[network].title}, {rows[0].num_trials} complete trials"
        axes.set_title(title, fontsize=9, parse_math=False)
    figure.supxlabel(f"importance ({importances[0].evaluator})", fontsize=9)
    return figure


def _draw_importances(axes: Axes, rows: Sequence[Importance], color: str) -> None:
    names = [parameter_title(row.parameter) for row in rows]
    values = [row.importance or 0.0 for row in rows]
    bars = axes.barh(names, values, color=color)
    for bar, row in zip(bars, rows, strict=True):
        bar.set_alpha(1.0 if row.verdict == IMPORTANT else 0.35)
    axes.hlines(names, [_or_nan(row.low) for row in rows], [_or_nan(row.high) for row in rows], colors=INK)
    tidy(axes, grid="x")
    # A share of the variation; one scale makes the panels comparable.
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", labelsize=8)


def marginal_effects(effects: Sequence[Effect]) -> Figure:
    """Draw the mean objective of the trials with each option or third of a parameter, with its interval.

    Args:
        effects: rows of 3D_FCN_PPM; one or more.
    """
    parameters = list(dict.fromkeys(row.parameter for row in effects))
    num_rows = -(-len(parameters) // _PANELS)
    figure = Figure(figsize=(8.6, 2.7 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, _PANELS, sharey=True, squeeze=False)
    for axes, parameter in zip(first_axes(grid, len(parameters)), parameters, strict=True):
        tidy(axes)
        _draw_means(axes, [row for row in effects if row.parameter == parameter], LOOKS[MAIN_NETWORK].color)
        axes.set_xlabel(parameter_title(parameter))
    for axes in grid[:, 0]:
        axes.set_ylabel("mean objective")
    return figure


def _draw_means(axes: Axes, rows: Sequence[Effect], color: str) -> None:
    places = range(len(rows))
    # Matplotlib draws nothing for NaN, of a group without trials or without an interval.
    axes.plot(places, [_or_nan(row.mean_objective) for row in rows], "o", color=color)
    _draw_intervals(axes, places, rows, color)
    axes.set_xticks(places, [f"{row.group}\n({row.num_trials})" for row in rows], fontsize=7)
    if len(rows) > _PANELS:
        axes.tick_params(axis="x", rotation=40)
    axes.set_xlim(-0.6, len(rows) - 0.4)


def interaction(cells: Sequence[InteractionCell]) -> Figure:
    """Draw the mean objective by the two most important parameters: a line for each group of the second one.

    Args:
        cells: rows of one network; one or more.
    """
    firsts = list(dict.fromkeys(row.first_group for row in cells))
    seconds = sorted(dict.fromkeys(row.second_group for row in cells))
    second = parameter_title(cells[0].second)
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    axes = figure.subplots()
    shades = _MAP(np.linspace(0.2, 1.0, len(seconds)))
    for index, (group, shade) in enumerate(zip(seconds, shades, strict=True)):
        shift = 0.06 * (index - (len(seconds) - 1) / 2)  # so that intervals do not cover each other
        rows = [row for row in cells if row.second_group == group]
        places = [firsts.index(row.first_group) + shift for row in rows]
        style = {"color": shade, "marker": _MARKERS[index % len(_MARKERS)], "label": f"{second} {group}"}
        axes.plot(places, [_or_nan(row.mean_objective) for row in rows], **style)
        _draw_intervals(axes, places, rows, shade)
    axes.set_xticks(range(len(firsts)), firsts)
    axes.set_xlabel(parameter_title(cells[0].first))
    axes.set_ylabel("mean objective")
    tidy(axes)
    legend(figure, axes.get_legend_handles_labels()[0])
    return figure


def _draw_intervals(axes: Axes, places: Sequence[float], rows: Sequence[Effect | InteractionCell], color: Any) -> None:
    lows = [_or_nan(row.low) for row in rows]
    axes.vlines(places, lows, [_or_nan(row.high) for row in rows], colors=color)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def pruning(trials: Sequence[Trial]) -> Figure:
    """Draw the number of trials by epoch and state, and the hours that each state cost or pruning saved."""
    figure = Figure(figsize=(8.6, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_counts(left, trials)
    _draw_hours(right, trials)
    # The bars on the right have the colors of the states as well, so one legend serves both.
    legend(figure, left.get_legend_handles_labels()[0])
    return figure


def _draw_counts(axes: Axes, trials: Sequence[Trial]) -> None:
    # At least 1, because all trials may have failed in their first epoch.
    most = max([trial.epochs for trial in trials] + [1])
    base = np.zeros(most)
    for state, color in STATE_COLORS.items():
        counts = np.array([sum(t.state == state and t.epochs >= epoch for t in trials) for epoch in range(1, most + 1)])
        axes.bar(np.arange(1, most + 1), counts, bottom=base, color=color, width=0.9, label=state)
        base = base + counts
    axes.set_xlabel("epoch")
    axes.set_ylabel("trials that trained it")
    tidy(axes)


def _draw_hours(axes: Axes, trials: Sequence[Trial]) -> None:
    spent = {state: sum(_hours(t) for t in trials if t.state == state) for state in STATE_COLORS}
    saved = sum(saved_by_pruning(_hours(t), t.epochs, t.planned_epochs) for t in trials if t.state == "pruned")
    axes.barh([*spent, "saved by pruning"], [*spent.values(), saved], color=[*STATE_COLORS.values(), FAINT])
    axes.invert_yaxis()
    axes.set_xlabel("GPU hours" if any(t.gpu_hours for t in trials) else "CPU hours")
    tidy(axes, grid="x")


def _hours(trial: Trial) -> float:
    # A trial on a GPU has CPU hours too, so GPU hours come first.
    return trial.gpu_hours or trial.cpu_hours
