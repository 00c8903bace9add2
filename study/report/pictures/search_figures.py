"""Charts of the search, each a pure function of rows.

Trials are drawn as collections of Matplotlib, because thousands of single lines would take minutes.
"""

from collections.abc import Sequence
from typing import Final

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
from renalnet.config.training import SHARE_SUFFIX
from study.config.sections import WEIGHT_SUFFIX
from study.records.tables import Importance, Trial
from study.report.analysis.methods import LOOKS, Looks, in_order
from study.report.analysis.palette import FAINT, INK, PAGE, STATE_COLORS
from study.report.pictures.figures import further_weights, legend, tidy, weight_title
from study.search.rungs import saved_by_pruning

# Gray, because the color of a network is left to its winner; the lightest grays are not seen on a white page.
_MAP: Final = ListedColormap(colormaps["Greys"](np.linspace(0.25, 0.9, 256)))
_MOST_NAMES: Final = 12
"""Number of names on an axis; of more names only every second, third, … is written."""
PARAMETERS: Final = {
    "ppm_kernels": "pooling kernels",
    "first_step": "first milestone",
    "second_gap": "epochs to the second milestone",
    "third_gap": "epochs to the third milestone",
    "base_rate": "first learning rate",
    "rate_decay": "decay of the learning rate",
    "weight_decay": "weight decay",
    "batch_size": "batch size",
    "width": "width of the network",
}
"""Titles of the searched parameters that belong to no label."""
_LABEL_PARAMETERS: Final = {WEIGHT_SUFFIX: "weight of {}", SHARE_SUFFIX: "share of {} crops"}
"""Titles of the parameters of a label, by the end of their names."""


def parameter_title(parameter: str) -> str:
    """Return the title of a searched parameter for people; an unknown parameter is its own title."""
    for end, title in _LABEL_PARAMETERS.items():
        if parameter.endswith(end):
            return title.format(parameter.removesuffix(end).replace("_", " "))
    return PARAMETERS.get(parameter, parameter)


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
    """Draw how much each searched parameter decides the objective, one panel per network."""
    networks = in_order(row.network for row in importances)
    tallest = max(sum(row.network == name for row in importances) for name in networks)
    figure = Figure(figsize=(8.6, 0.9 + 0.32 * tallest), layout="constrained")
    for axes, network in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
        # `barh` draws upwards, so the largest importance is on top.
        rows = sorted((row for row in importances if row.network == network), key=lambda row: row.importance)
        names = [parameter_title(row.parameter) for row in rows]
        axes.barh(names, [row.importance for row in rows], color=looks[network].color)
        tidy(axes, grid="x")
        # The importances of a network sum to 1; one scale makes the panels comparable.
        axes.set_xlim(0, 1)
        axes.tick_params(axis="y", labelsize=8)
        title = f"{looks[network].title}, {rows[0].num_trials} complete trials"
        axes.set_title(title, fontsize=9, parse_math=False)
    figure.supxlabel(f"importance ({importances[0].evaluator})", fontsize=9)
    return figure


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
