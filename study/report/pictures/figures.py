"""Charts of a report, each a pure function of rows; nothing here reads files. Colours: Okabe & Ito (2008)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from study.records.tables import Epoch, Trial
from study.report.analysis.summary import OURS, TITLES, CaseOutcome

COLOURS: Final[dict[str, str]] = {
    "fcn_ppm": "#0072B2",
    "unet3d": "#E69F00",
    "pspnet2d": "#CC79A7",
    "threshold_roi": "#8A8F98",
    "threshold_inside": "#5B616B",
}
MARKERS: Final[dict[str, str]] = {
    "fcn_ppm": "o",
    "unet3d": "s",
    "pspnet2d": "^",
    "threshold_roi": "x",
    "threshold_inside": "+",
}
INK: Final = "#1F2933"
TIDY_FAINT: Final = "#D9DEE4"
_OTHER: Final = "#009E73"
_MAX_NAMED_PATIENTS: Final = 30
_MANY: Final = 200
"""Trials from which marks are smaller and fainter."""
_MOST_NAMES: Final = 10
"""On an axis; of more names every second, third … is written."""


def learning_curves(epochs: Sequence[Epoch], trials: Sequence[Trial], winner: str) -> Figure:
    """Validation objective by epoch, a line a trial: pruned and failed faded, the winner bold."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = _axes(figure, "epoch", "objective (mean validation Dice)")
    states = {trial.name: trial.state for trial in trials}
    curves: dict[str, list[Epoch]] = {}
    for row in epochs:
        if row.objective is not None:
            curves.setdefault(row.name, []).append(row)
    ordered = {name: sorted(rows, key=lambda row: row.epoch) for name, rows in curves.items()}
    _curves(axes, [rows for name, rows in ordered.items() if name != winner], states)
    if winner in ordered:
        _winners_curve(axes, ordered[winner])
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    seen = [network for network in TITLES if any(rows[0].network == network for rows in curves.values())]
    handles = [Line2D([], [], color=colour_of(name), label=TITLES[name]) for name in seen]
    handles.append(Line2D([], [], color=INK, linewidth=3, label="winner"))
    handles.append(Line2D([], [], color=INK, alpha=0.35, linestyle="--", label="stopped early"))
    legend(figure, handles)
    return figure


def _curves(axes: Axes, curves: Sequence[list[Epoch]], states: Mapping[str, str]) -> None:
    """Whole trials as lines, those stopped early dashed and faded; a trial of one epoch as a dot."""
    thin = 0.4 if len(curves) > _MANY else 1.0
    for is_complete, style, alpha in ((False, "--", 0.35), (True, "-", 0.75)):
        rows = [own for own in curves if (states.get(own[0].name) == "complete") == is_complete]
        lines = [[(row.epoch, row.objective or 0.0) for row in own] for own in rows]
        colours = [colour_of(own[0].network) for own in rows]
        axes.add_collection(
            LineCollection(lines, colors=colours, linewidths=1.3 * thin, linestyles=style, alpha=alpha * thin)
        )
        dots = [(own[0], colour) for own, colour in zip(rows, colours, strict=True) if len(own) == 1]
        axes.scatter(
            [row.epoch for row, _ in dots],
            [row.objective or 0.0 for row, _ in dots],
            s=20 * thin,
            c=[colour for _, colour in dots],
            alpha=alpha * thin,
        )
    axes.autoscale_view()


def _winners_curve(axes: Axes, rows: Sequence[Epoch]) -> None:
    epochs, objectives = [row.epoch for row in rows], [row.objective or 0.0 for row in rows]
    axes.plot(epochs, objectives, color=colour_of(rows[0].network), linewidth=3.2, marker="o", markersize=5, zorder=3)


def trial_overview(trials: Sequence[Trial], winner: str) -> Figure:
    """Best objective of the 3D_FCN_PPM trials against each searched value."""
    scored = [trial for trial in trials if trial.objective is not None and trial.network == OURS]
    figure = Figure(figsize=(8.6, 5.4), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True).ravel()
    _categories(panels[0], scored, [trial.ppm_kernels or "none" for trial in scored], winner)
    panels[0].set_xlabel("pooling kernels")
    _categories(panels[1], scored, [trial.milestones or "none" for trial in scored], winner)
    panels[1].set_xlabel("milestones (epochs)")
    weights = {
        "weight of tumor": [trial.weight_tumor for trial in scored],
        "weight of kidney": [trial.weight_kidney for trial in scored],
        "weight of background": [trial.weight_background for trial in scored],
    }
    for axes, (label, values) in zip(panels[2:5], weights.items(), strict=True):
        _weights(axes, scored, values, winner)
        axes.set_xlabel(label)
    _categories(panels[5], scored, [trial.state for trial in scored], winner)
    panels[5].set_xlabel("state")
    for axes in panels:
        tidy(axes)
        axes.set_ylim(0, 1)
    for axes in (panels[0], panels[3]):
        axes.set_ylabel("best objective")
    legend(
        figure,
        [
            _dot(colour_of("fcn_ppm"), "o", "trial"),
            _dot(colour_of("fcn_ppm"), "o", "stopped early", alpha=0.35),
            _dot("#D55E00", "*", "winner"),
            _dot(_OTHER, "D", "paper’s point"),
        ],
    )
    return figure


def _categories(axes: Axes, trials: Sequence[Trial], values: Sequence[str], winner: str) -> None:
    names = sorted(set(values))
    _trial_dots(axes, trials, [float(names.index(value)) for value in values], winner)
    step = -(-len(names) // _MOST_NAMES)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=40 if len(names) > 3 else 0, ha="center")
    axes.tick_params(axis="x", labelsize=7 if len(names) > 3 else 9)
    axes.set_xlim(-0.6, max(len(names), 1) - 0.4)


def _weights(axes: Axes, trials: Sequence[Trial], values: Sequence[float | None], winner: str) -> None:
    known = [(trial, value) for trial, value in zip(trials, values, strict=True) if value is not None]
    _trial_dots(axes, [trial for trial, _ in known], [value for _, value in known], winner)


def _trial_dots(axes: Axes, trials: Sequence[Trial], positions: Sequence[float], winner: str) -> None:
    size = 12.0 if len(trials) > _MANY else 49.0
    stopped = [trial.state != "complete" for trial in trials]
    _dots(axes, trials, positions, stopped, marker="o", color=colour_of(OURS), s=size, alpha=0.35, zorder=2)
    whole = [not is_stopped for is_stopped in stopped]
    _dots(axes, trials, positions, whole, marker="o", color=colour_of(OURS), s=size, zorder=3)
    papers = [trial.is_paper_point for trial in trials]
    _dots(axes, trials, positions, papers, marker="D", color=_OTHER, s=49.0, zorder=4)
    winners = [trial.name == winner for trial in trials]
    _dots(axes, trials, positions, winners, marker="*", color="#D55E00", s=196.0, zorder=5)


def _dots(
    axes: Axes, trials: Sequence[Trial], positions: Sequence[float], chosen: Sequence[bool], **style: Any
) -> None:
    """The chosen of the trials, at their positions and best objectives."""
    places = [
        (x, trial.objective or 0.0) for trial, x, is_chosen in zip(trials, positions, chosen, strict=True) if is_chosen
    ]
    axes.scatter([x for x, _ in places], [height for _, height in places], **style)


def patient_dice(patients: Sequence[CaseOutcome]) -> Figure:
    """Dice of each test patient under each network; patients by falling tumor Dice of the winner."""
    figure = Figure(figsize=(8.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    networks = _networks(patients)
    for axes, label in zip(panels, ("tumor", "kidney"), strict=True):
        tidy(axes)
        for place, network in enumerate(networks):
            shift = 0.12 * (place - (len(networks) - 1) / 2)  # equal values lie side by side
            heights = [_dice_of(patient, network)[label == "tumor"] for patient in patients]
            axes.plot([index + shift for index in range(len(patients))], heights, **_style(network, len(patients)))
        axes.set_ylabel(f"Dice {label}")
        axes.set_ylim(-0.04, 1.04)
    _name_patients(panels[-1], patients)
    legend(figure, [_dot(colour_of(n), MARKERS.get(n, "o"), TITLES.get(n, n)) for n in networks])
    return figure


def _name_patients(axes: Axes, patients: Sequence[CaseOutcome]) -> None:
    if len(patients) > _MAX_NAMED_PATIENTS:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(patients)} test patients, by falling tumor Dice of the winner")
        return
    names = [patient.case if patient.has_tumor else f"{patient.case} (healthy)" for patient in patients]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    for text in axes.get_xticklabels():
        text.set_parse_math(False)  # a `$` in a patient's name is no formula


def dice_by_volume(patients: Sequence[CaseOutcome]) -> Figure:
    """Tumor Dice against the tumor's volume; healthy kidneys have no place on a logarithmic axis."""
    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    axes = _axes(figure, "true tumor volume (ml, logarithmic)", "Dice tumor")
    axes.set_xscale("log")
    diseased = [patient for patient in patients if patient.has_tumor]
    networks = _networks(patients)
    for network in networks:
        heights = [_dice_of(patient, network)[1] for patient in diseased]
        axes.plot([patient.tumor_ml for patient in diseased], heights, **_style(network, len(patients)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(-0.04, 1.04)
    legend(figure, [_dot(colour_of(n), MARKERS.get(n, "o"), TITLES.get(n, n)) for n in networks])
    return figure


def volume_agreement(patients: Sequence[CaseOutcome]) -> Figure:
    """Predicted less true volume against their mean; bias and 95 % limits of agreement (Bland and Altman, 1986)."""
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    pairs = {
        "kidney": [(patient.kidney_ml, patient.kidney_pred_ml) for patient in patients],
        "tumor": [(patient.tumor_ml, patient.tumor_pred_ml) for patient in patients],
    }
    for axes, (label, volumes) in zip(figure.subplots(1, 2), pairs.items(), strict=True):
        true, predicted = np.array(volumes, dtype=np.float64).T
        difference = predicted - true
        tidy(axes)
        axes.scatter((true + predicted) / 2, difference, s=28, color=colour_of(OURS), alpha=0.8, zorder=3)
        _agreement_lines(axes, difference)
        axes.set_xlabel(f"{label}: mean of both volumes (ml)")
        axes.set_ylabel("predicted less true (ml)")
    return figure


def _agreement_lines(axes: Axes, difference: NDArray[np.float64]) -> None:
    bias = float(difference.mean())
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


def trust(patients: Sequence[CaseOutcome]) -> Figure:
    """True tumor Dice of the test patients against the one that the signs of their masks let expect."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    axes = _axes(figure, "expected tumor Dice (without truth)", "true tumor Dice")
    known = [patient for patient in patients if patient.expected_dice is not None]
    axes.plot([0, 1], [0, 1], color=TIDY_FAINT, linewidth=1.5)
    for has_tumor, marker, name in ((True, "o", "tumor"), (False, "s", "healthy kidney")):
        some = [patient for patient in known if patient.has_tumor == has_tumor]
        expected, true = [p.expected_dice or 0.0 for p in some], [p.dice_tumor for p in some]
        axes.scatter(expected, true, s=36, marker=marker, alpha=0.8, label=name, zorder=3)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _networks(patients: Sequence[CaseOutcome]) -> list[str]:
    seen = {name for patient in patients for name in patient.dice_by_network}
    return sorted(seen, key=lambda name: (name not in TITLES, list(TITLES).index(name) if name in TITLES else 0))


def _dice_of(patient: CaseOutcome, network: str) -> tuple[float, float]:
    return patient.dice_by_network.get(network, (float("nan"), float("nan")))


def _style(network: str, num_patients: int) -> dict[str, Any]:
    return {
        "color": colour_of(network),
        "marker": MARKERS.get(network, "o"),
        "linestyle": "none",
        "markersize": (8 if network == "fcn_ppm" else 6) * (0.6 if num_patients > _MAX_NAMED_PATIENTS else 1),
        "alpha": 0.9,
        "zorder": 4 if network == "fcn_ppm" else 3,
    }


def colour_of(network: str) -> str:
    """Of a network or rule; another program's where it is none of them."""
    return COLOURS.get(network, _OTHER)


def _axes(figure: Figure, x_label: str, y_label: str) -> Axes:
    axes = figure.subplots()
    tidy(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return axes


def tidy(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """The look of all charts; faint lines across the values' axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9AA5B1")
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(True, axis=grid, color=TIDY_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _dot(colour: str, marker: str, label: str, alpha: float = 1.0) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=label, alpha=alpha, markersize=8)


def legend(figure: Figure, handles: Iterable[Artist]) -> None:
    """Above the chart, in a line."""
    entries = list(handles)
    figure.legend(handles=entries, loc="outside upper left", ncols=min(len(entries), 5), frameon=False, fontsize=9)
