"""Charts of a report, each a pure function of rows; nothing here reads files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.config.labels import BACKGROUND_NAME, KIDNEY, TUMOR, Label
from renalnet.config.networks import MAIN_NETWORK
from study.records.tables import Epoch, Trial
from study.report.analysis.methods import LOOKS, Looks, in_order
from study.report.analysis.palette import AXIS, FAINT, INK, PAGE
from study.report.analysis.summary import CaseOutcome, lesions_of, tumor_first

_MAX_NAMED_CASES: Final = 30
"""Number of cases up to which the axis names each of them."""
_MANY_TRIALS: Final = 200
"""Number of trials above which marks are smaller and fainter, since they would cover each other."""
_MAX_LEGEND_ROW: Final = 5
_MAX_LEGEND_LETTERS: Final = 70
"""Letters of a legend in one row: with its marks, they are as wide as a figure."""
_MOST_NAMES: Final = 10
"""Number of names on an axis; of more names only every second, third, … is written."""


def learning_curves(epochs: Sequence[Epoch], trials: Sequence[Trial], winner: str, looks: Looks) -> Figure:
    """Draw the validation objective by epoch, one line per trial.

    The winner is bold; trials that were pruned or failed are dashed and faint.
    """
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = _axes(figure, "epoch", "objective (mean validation Dice)")
    states = {trial.name: trial.state for trial in trials}
    curves = _curves_by_name(epochs)
    _draw_curves(axes, [rows for name, rows in curves.items() if name != winner], states, looks)
    if winner in curves:
        _draw_winner(axes, curves[winner], looks)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    networks = in_order(rows[0].network for rows in curves.values())
    handles = [Line2D([], [], color=looks[name].color, label=looks[name].title) for name in networks]
    handles.append(Line2D([], [], color=INK, linewidth=3, label="winner"))
    handles.append(Line2D([], [], color=INK, alpha=0.35, linestyle="--", label="stopped early"))
    legend(figure, handles)
    return figure


def _curves_by_name(epochs: Sequence[Epoch]) -> dict[str, list[Epoch]]:
    """Return the epochs with an objective of each trial, in their order."""
    curves: dict[str, list[Epoch]] = {}
    for row in epochs:
        if row.objective is not None:
            curves.setdefault(row.name, []).append(row)
    return {name: sorted(rows, key=lambda row: row.epoch) for name, rows in curves.items()}


def _draw_curves(axes: Axes, curves: Sequence[list[Epoch]], states: Mapping[str, str], looks: Looks) -> None:
    """Draw complete trials as lines, others dashed and faint, and a trial of one epoch as a dot."""
    thin = 0.4 if len(curves) > _MANY_TRIALS else 1.0
    for is_complete, style, alpha in ((False, "--", 0.35), (True, "-", 0.75)):
        # Complete trials come second, so that they lie above those that stopped early.
        rows = [own for own in curves if (states.get(own[0].name) == "complete") == is_complete]
        # `or 0.0` only serves the types: epochs without an objective were left out before.
        lines = [[(row.epoch, row.objective or 0.0) for row in own] for own in rows]
        colors = [looks[own[0].network].color for own in rows]
        # One collection for all lines; thousands of single lines would take minutes.
        axes.add_collection(
            LineCollection(lines, colors=colors, linewidths=1.3 * thin, linestyles=style, alpha=alpha * thin)
        )
        # A line through one point has no length.
        dots = [(own[0], color) for own, color in zip(rows, colors, strict=True) if len(own) == 1]
        axes.scatter(
            [row.epoch for row, _ in dots],
            [row.objective or 0.0 for row, _ in dots],
            s=20 * thin,
            c=[color for _, color in dots],
            alpha=alpha * thin,
        )
    # Matplotlib before 3.11 does not fit the axes to a new collection by itself.
    axes.autoscale_view()


def _draw_winner(axes: Axes, rows: Sequence[Epoch], looks: Looks) -> None:
    color = looks[rows[0].network].color
    epochs = [row.epoch for row in rows]
    objectives = [row.objective or 0.0 for row in rows]
    axes.plot(epochs, objectives, color=color, linewidth=3.2, marker="o", markersize=5, zorder=3)


def trial_overview(trials: Sequence[Trial], winner: str) -> Figure:
    """Draw the best objective of the 3D_FCN_PPM trials against each searched value."""
    scored = [trial for trial in trials if trial.objective is not None and trial.network == MAIN_NETWORK]
    panels = _overview_panels(scored, winner)
    num_rows = -(-len(panels) // 3)
    figure = Figure(figsize=(8.6, 2.7 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, 3, sharey=True)
    for axes, (title, draw) in zip(first_axes(grid, len(panels)), panels.items(), strict=True):
        draw(axes)
        axes.set_xlabel(title)
        tidy(axes)
        axes.set_ylim(0, 1)
    for axes in grid[:, 0]:
        axes.set_ylabel("best objective")
    legend(figure, _overview_key())
    return figure


def _overview_panels(scored: Sequence[Trial], winner: str) -> dict[str, Callable[[Axes], None]]:
    """Return what draws each panel, by the label of its axis."""
    kernels = [trial.ppm_kernels or "none" for trial in scored]
    milestones = [trial.milestones or "none" for trial in scored]
    return {
        "pooling kernels": partial(_categories, trials=scored, values=kernels, winner=winner),
        "milestones (epochs)": partial(_categories, trials=scored, values=milestones, winner=winner),
        **{
            weight_title(name): partial(
                _weights, trials=scored, values=[t.weights.get(name) for t in scored], winner=winner
            )
            for name in (TUMOR, KIDNEY, BACKGROUND_NAME, *further_weights(scored))
        },
        "state": partial(_categories, trials=scored, values=[t.state for t in scored], winner=winner),
    }


def further_weights(trials: Iterable[Trial]) -> list[str]:
    """Return the labels, other than kidney and tumor, of which any trial states the class weight."""
    stated = dict.fromkeys(name for trial in trials for name, value in trial.weights.items() if value is not None)
    return [name for name in stated if name not in (TUMOR, KIDNEY, BACKGROUND_NAME)]


def weight_title(name: str) -> str:
    """Return the title of the class weight of a label or of the background."""
    return f"weight of {name.replace('_', ' ')}"


def _overview_key() -> list[Line2D]:
    color = LOOKS[MAIN_NETWORK].color
    return [
        _dot(color, "o", "trial"),
        _dot(color, "o", "stopped early", alpha=0.35),
        Line2D([], [], label="winner", markersize=11, linestyle="none", **_winner_mark()),
        Line2D([], [], label="paper’s point", markersize=8, linestyle="none", **_paper_mark()),
    ]


def _categories(axes: Axes, trials: Sequence[Trial], values: Sequence[str], winner: str) -> None:
    names = sorted(set(values))
    _trial_dots(axes, trials, [float(names.index(value)) for value in values], winner)
    stride = -(-len(names) // _MOST_NAMES)
    axes.set_xticks(range(0, len(names), stride), names[::stride], rotation=40 if len(names) > 3 else 0, ha="center")
    axes.tick_params(axis="x", labelsize=7 if len(names) > 3 else 9)
    axes.set_xlim(-0.6, max(len(names), 1) - 0.4)


def _weights(axes: Axes, trials: Sequence[Trial], values: Sequence[float | None], winner: str) -> None:
    known = [(trial, value) for trial, value in zip(trials, values, strict=True) if value is not None]
    _trial_dots(axes, [trial for trial, _ in known], [value for _, value in known], winner)


def _trial_dots(axes: Axes, trials: Sequence[Trial], positions: Sequence[float], winner: str) -> None:
    size = 12.0 if len(trials) > _MANY_TRIALS else 49.0
    color = LOOKS[MAIN_NETWORK].color
    stopped = [trial.state != "complete" for trial in trials]
    _dots(axes, trials, positions, stopped, marker="o", color=color, s=size, alpha=0.35, zorder=2)
    complete = [not is_stopped for is_stopped in stopped]
    _dots(axes, trials, positions, complete, marker="o", color=color, s=size, zorder=3)
    # The paper's point and the winner are among these dots as well, so their marks are drawn over them.
    papers = [trial.is_paper_point for trial in trials]
    _marks(axes, trials, positions, papers, size=8.0, zorder=4, **_paper_mark())
    winners = [trial.name == winner for trial in trials]
    _marks(axes, trials, positions, winners, size=15.0, zorder=5, **_winner_mark())


def _winner_mark() -> dict[str, Any]:
    # The color is that of the network in all figures; only the form tells the winner from other trials.
    return {"marker": "*", "color": LOOKS[MAIN_NETWORK].color, "markeredgecolor": INK}


def _paper_mark() -> dict[str, Any]:
    return {"marker": "D", "color": LOOKS[MAIN_NETWORK].color, "markerfacecolor": PAGE}


def _marks(
    axes: Axes, trials: Sequence[Trial], positions: Sequence[float], chosen: Sequence[bool], size: float, **style: Any
) -> None:
    """Draw a mark with an edge for each chosen trial at its position and best objective."""
    places = _places(trials, positions, chosen)
    axes.plot([x for x, _ in places], [height for _, height in places], linestyle="none", markersize=size, **style)


def _dots(
    axes: Axes, trials: Sequence[Trial], positions: Sequence[float], chosen: Sequence[bool], **style: Any
) -> None:
    """Draw the chosen trials at their positions and best objectives."""
    places = _places(trials, positions, chosen)
    axes.scatter([x for x, _ in places], [height for _, height in places], **style)


def _places(trials: Sequence[Trial], positions: Sequence[float], chosen: Sequence[bool]) -> list[tuple[float, float]]:
    return [
        (x, trial.objective or 0.0) for trial, x, is_chosen in zip(trials, positions, chosen, strict=True) if is_chosen
    ]


def case_dice(cases: Sequence[CaseOutcome], looks: Looks, labels: LabelSet) -> Figure:
    """Draw the Dice of each test case by each method, the cases by falling tumor Dice of the winner.

    Each label has a panel: the tumor, the kidney, then the others.
    """
    figure = Figure(figsize=(8.6, 2.8 * len(labels)), layout="constrained")
    panels = figure.subplots(len(labels), 1, sharex=True)
    networks = _networks(cases)
    for axes, label in zip(panels, tumor_first(labels), strict=True):
        tidy(axes)
        for place, network in enumerate(networks):
            shift = 0.12 * (place - (len(networks) - 1) / 2)  # equal values are drawn side by side
            heights = [_dice_of(case, network, label) for case in cases]
            axes.plot([index + shift for index in range(len(cases))], heights, **_style(network, len(cases), looks))
        axes.set_ylabel(f"Dice {label.title}")
        # Dice of 0 and 1 are common, and a limit there would cut their marks in half.
        axes.set_ylim(-0.04, 1.04)
    _name_cases(panels[-1], cases)
    legend(figure, _method_dots(networks, looks))
    return figure


def _name_cases(axes: Axes, cases: Sequence[CaseOutcome]) -> None:
    if len(cases) > _MAX_NAMED_CASES:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(cases)} test cases, by falling tumor Dice of the winner")
        return
    names = [case.case if case.has_tumor else f"{case.case} (no tumor)" for case in cases]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    for text in axes.get_xticklabels():
        text.set_parse_math(False)  # a `$` in the name of a case does not start a formula


def dice_by_volume(cases: Sequence[CaseOutcome], looks: Looks, labels: LabelSet) -> Figure:
    """Draw the Dice of each lesion of the kidney against its volume, one panel per lesion that any case has.

    A case without the lesion has no place on a logarithmic axis.

    Args:
        cases: test cases; one or more of them have a lesion.
        looks: colors and markers of the methods.
        labels: labels of the study.
    """
    lesions = [lesion for lesion in lesions_of(labels) if any(case.present[lesion.name] for case in cases)]
    figure = Figure(figsize=(8.6, 3.8 * len(lesions)), layout="constrained")
    networks = _networks(cases)
    for axes, lesion in zip(figure.subplots(len(lesions), 1, squeeze=False)[:, 0], lesions, strict=True):
        _set_up(axes, f"true {lesion.title} volume (ml, logarithmic)", f"Dice {lesion.title}")
        diseased = [case for case in cases if case.present[lesion.name]]
        volumes_ml = [case.volume_ml[lesion.name] for case in diseased]
        axes.set_xscale("log")
        for network in networks:
            heights = [_dice_of(case, network, lesion) for case in diseased]
            axes.plot(volumes_ml, heights, **_style(network, len(cases), looks))
        _mark_volumes(axes)
        axes.set_ylim(-0.04, 1.04)
    legend(figure, _method_dots(networks, looks))
    return figure


def _mark_volumes(axes: Axes) -> None:
    # Tumors span about two decades (2 to 145 ml in the paper), so powers of ten alone would be too few marks.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def volume_agreement(cases: Sequence[CaseOutcome], looks: Looks, labels: LabelSet) -> Figure:
    """Draw predicted minus true volume of each label against their mean, with the limits of agreement.

    The limits are those of Bland and Altman (1986).
    """
    num_rows = -(-len(labels) // 2)
    figure = Figure(figsize=(8.6, 3.4 * num_rows), layout="constrained")
    # Each case has the network of the winner.
    color = looks[cases[0].network].color
    grid = figure.subplots(num_rows, 2, squeeze=False)
    for axes, label in zip(first_axes(grid, len(labels)), labels.labels, strict=True):
        true = np.array([case.volume_ml[label.name] for case in cases], dtype=np.float64)
        predicted = np.array([case.pred_ml[label.name] for case in cases], dtype=np.float64)
        difference = predicted - true
        tidy(axes)
        axes.scatter((true + predicted) / 2, difference, s=28, color=color, alpha=0.8, zorder=3)
        _agreement_lines(axes, difference)
        axes.set_xlabel(f"{label.title}: mean of both volumes (ml)")
        axes.set_ylabel("predicted minus true (ml)")
    return figure


def _agreement_lines(axes: Axes, difference: NDArray[np.float64]) -> None:
    """Draw the mean difference and the range of 95 % of the differences, if they are normally distributed."""
    bias = float(difference.mean())
    # A single difference has no standard deviation.
    reach = 1.96 * float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    lines = {"bias": (bias, "-"), "upper limit": (bias + reach, "--"), "lower limit": (bias - reach, "--")}
    for name, (height, style) in lines.items():
        axes.axhline(height, color=INK, linewidth=1, linestyle=style, alpha=0.7)
        axes.annotate(
            f"{name} {height:+.1f}",
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
        )


def trust(cases: Sequence[CaseOutcome], looks: Looks) -> Figure:
    """Draw the true tumor Dice of the test cases against the one that was expected without the truth."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    axes = _axes(figure, "expected tumor Dice (without truth)", "true tumor Dice")
    known = [case for case in cases if case.expected_dice is not None]
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.5)
    color = looks[cases[0].network].color
    for has_tumor, marker, name, face in ((True, "o", "tumor", color), (False, "s", "no tumor", PAGE)):
        some = [case for case in known if case.has_tumor == has_tumor]
        expected = [case.expected_dice or 0.0 for case in some]
        dice = [case.dice_tumor for case in some]
        axes.scatter(expected, dice, s=36, facecolors=face, edgecolors=color, marker=marker, label=name, zorder=3)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _networks(cases: Sequence[CaseOutcome]) -> list[str]:
    return in_order(name for case in cases for name in case.dice_by_network)


def _dice_of(case: CaseOutcome, network: str, label: Label) -> float:
    # Matplotlib draws no mark for NaN.
    return case.dice_by_network.get(network, {}).get(label.name, float("nan"))


def _style(network: str, num_cases: int, looks: Looks) -> dict[str, Any]:
    return {
        "color": looks[network].color,
        "marker": looks[network].marker,
        "linestyle": "none",
        "markersize": (8 if network == MAIN_NETWORK else 6) * (0.6 if num_cases > _MAX_NAMED_CASES else 1),
        "alpha": 0.9,
        # 3D_FCN_PPM is the subject of the report, so no other mark hides it.
        "zorder": 4 if network == MAIN_NETWORK else 3,
    }


def _method_dots(networks: Iterable[str], looks: Looks) -> list[Line2D]:
    return [_dot(looks[name].color, looks[name].marker, looks[name].title) for name in networks]


def _axes(figure: Figure, x_label: str, y_label: str) -> Axes:
    axes = figure.subplots()
    _set_up(axes, x_label, y_label)
    return axes


def _set_up(axes: Axes, x_label: str, y_label: str) -> None:
    tidy(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def first_axes(grid: NDArray[np.object_], number: int) -> list[Axes]:
    """Return the first axes of a grid, row by row, and hide the others."""
    for axes in grid.ravel()[number:]:
        axes.set_axis_off()
    return list(grid.ravel()[:number])


def tidy(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Give a chart the look of all charts, with faint lines across the axis of the values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(AXIS)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(True, axis=grid, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _dot(color: str, marker: str, label: str, alpha: float = 1.0) -> Line2D:
    return Line2D([], [], color=color, marker=marker, linestyle="none", label=label, alpha=alpha, markersize=8)


def legend(figure: Figure, handles: Iterable[Artist]) -> None:
    """Put the legend above the chart."""
    entries = list(handles)
    num_letters = sum(len(str(entry.get_label())) for entry in entries)
    fits = len(entries) <= _MAX_LEGEND_ROW and num_letters <= _MAX_LEGEND_LETTERS
    num_columns = len(entries) if fits else 3  # more columns would leave the figure
    drawn = figure.legend(handles=entries, loc="outside upper left", ncols=num_columns, frameon=False, fontsize=9)
    for text in drawn.get_texts():
        text.set_parse_math(False)  # a `$` in the name of a program does not start a formula
