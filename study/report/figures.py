"""Charts of a report, each a pure function of rows; nothing here reads files. Colours: Okabe & Ito (2008)."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from study.report.rows import Epoch, Trial
from study.report.summary import TITLES, Patient

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
_INK: Final = "#1F2933"
_FAINT: Final = "#D9DEE4"
_OTHER: Final = "#009E73"
_MAX_NAMED_PATIENTS: Final = 30


def learning_curves(epochs: Sequence[Epoch], trials: Sequence[Trial], winner: str) -> Figure:
    """Validation objective by epoch, a line a trial: pruned and failed faded, the winner bold."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = _axes(figure, "epoch", "objective (mean validation Dice)")
    states = {trial.name: trial.state for trial in trials}
    curves: dict[str, list[Epoch]] = {}
    for row in epochs:
        if row.objective is not None:
            curves.setdefault(row.name, []).append(row)
    for name, rows in curves.items():
        _curve(axes, sorted(rows, key=lambda row: row.epoch), name == winner, states.get(name) == "complete")
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    seen = [network for network in TITLES if any(rows[0].network == network for rows in curves.values())]
    handles = [Line2D([], [], color=_colour(name), label=TITLES[name]) for name in seen]
    handles.append(Line2D([], [], color=_INK, linewidth=3, label="winner"))
    handles.append(Line2D([], [], color=_INK, alpha=0.35, linestyle="--", label="stopped early"))
    _legend(figure, handles)
    return figure


def _curve(axes: Axes, rows: Sequence[Epoch], is_winner: bool, is_complete: bool) -> None:
    axes.plot(
        [row.epoch for row in rows],
        [row.objective or 0.0 for row in rows],
        color=_colour(rows[0].network),
        linewidth=3.2 if is_winner else 1.3,
        linestyle="-" if is_complete else "--",
        alpha=1.0 if is_winner else 0.75 if is_complete else 0.35,
        marker="o" if len(rows) == 1 or is_winner else None,
        markersize=5,
        zorder=3 if is_winner else 2,
    )


def trial_overview(trials: Sequence[Trial], winner: str) -> Figure:
    """Best objective of the 3D_FCN_PPM trials against each searched value."""
    scored = [trial for trial in trials if trial.objective is not None and trial.network == "fcn_ppm"]
    figure = Figure(figsize=(8.6, 5.4), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True).ravel()
    _categories(panels[0], scored, [trial.ppm_kernels or "none" for trial in scored], winner)
    panels[0].set_xlabel("pooling kernels")
    _categories(panels[1], scored, [trial.milestones or "none" for trial in scored], winner)
    panels[1].set_xlabel("milestones (epochs)")
    weights = {
        "weight of tumour": [trial.weight_tumor for trial in scored],
        "weight of kidney": [trial.weight_kidney for trial in scored],
        "weight of background": [trial.weight_background for trial in scored],
    }
    for axes, (label, values) in zip(panels[2:5], weights.items(), strict=True):
        _weights(axes, scored, values, winner)
        axes.set_xlabel(label)
    _categories(panels[5], scored, [trial.state for trial in scored], winner)
    panels[5].set_xlabel("state")
    for axes in panels:
        _tidy(axes)
        axes.set_ylim(0, 1)
    for axes in (panels[0], panels[3]):
        axes.set_ylabel("best objective")
    _legend(
        figure,
        [
            _dot(_colour("fcn_ppm"), "o", "trial"),
            _dot(_colour("fcn_ppm"), "o", "stopped early", alpha=0.35),
            _dot("#D55E00", "*", "winner"),
            _dot(_OTHER, "D", "paper’s point"),
        ],
    )
    return figure


def _categories(axes: Axes, trials: Sequence[Trial], values: Sequence[str], winner: str) -> None:
    names = sorted(set(values))
    _trial_dots(axes, trials, [float(names.index(value)) for value in values], winner)
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0, ha="center")
    axes.set_xlim(-0.6, max(len(names), 1) - 0.4)


def _weights(axes: Axes, trials: Sequence[Trial], values: Sequence[float | None], winner: str) -> None:
    known = [(trial, value) for trial, value in zip(trials, values, strict=True) if value is not None]
    _trial_dots(axes, [trial for trial, _ in known], [value for _, value in known], winner)


def _trial_dots(axes: Axes, trials: Sequence[Trial], positions: Sequence[float], winner: str) -> None:
    for trial, position in zip(trials, positions, strict=True):
        is_winner = trial.name == winner
        marker = "*" if is_winner else "D" if trial.is_paper_point else "o"
        colour = "#D55E00" if is_winner else _OTHER if trial.is_paper_point else _colour("fcn_ppm")
        axes.plot(
            position,
            trial.objective or 0.0,
            marker=marker,
            color=colour,
            markersize=14 if is_winner else 7,
            alpha=1.0 if is_winner or trial.state == "complete" else 0.35,
            zorder=4 if is_winner else 3,
        )


def patient_dice(patients: Sequence[Patient]) -> Figure:
    """Dice of each test patient under each network; patients by falling tumor Dice of the winner."""
    figure = Figure(figsize=(8.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    networks = _networks(patients)
    for axes, label in zip(panels, ("tumour", "kidney"), strict=True):
        _tidy(axes)
        for place, network in enumerate(networks):
            shift = 0.12 * (place - (len(networks) - 1) / 2)  # equal values lie side by side
            heights = [_dice_of(patient, network)[label == "tumour"] for patient in patients]
            axes.plot([index + shift for index in range(len(patients))], heights, **_style(network, len(patients)))
        axes.set_ylabel(f"Dice {label}")
        axes.set_ylim(-0.04, 1.04)
    _name_patients(panels[-1], patients)
    _legend(figure, [_dot(_colour(n), MARKERS.get(n, "o"), TITLES.get(n, n)) for n in networks])
    return figure


def _name_patients(axes: Axes, patients: Sequence[Patient]) -> None:
    if len(patients) > _MAX_NAMED_PATIENTS:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(patients)} test patients, by falling tumour Dice of the winner")
        return
    names = [patient.case if patient.has_tumor else f"{patient.case} (healthy)" for patient in patients]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    for text in axes.get_xticklabels():
        text.set_parse_math(False)  # a `$` in a patient's name is no formula


def dice_by_volume(patients: Sequence[Patient]) -> Figure:
    """Tumor Dice against the tumor's volume; healthy kidneys have no place on a logarithmic axis."""
    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    axes = _axes(figure, "true tumour volume (ml, logarithmic)", "Dice tumour")
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
    _legend(figure, [_dot(_colour(n), MARKERS.get(n, "o"), TITLES.get(n, n)) for n in networks])
    return figure


def _networks(patients: Sequence[Patient]) -> list[str]:
    seen = {name for patient in patients for name in patient.dice_by_network}
    return sorted(seen, key=lambda name: (name not in TITLES, list(TITLES).index(name) if name in TITLES else 0))


def _dice_of(patient: Patient, network: str) -> tuple[float, float]:
    return patient.dice_by_network.get(network, (float("nan"), float("nan")))


def _style(network: str, num_patients: int) -> dict[str, Any]:
    return {
        "color": _colour(network),
        "marker": MARKERS.get(network, "o"),
        "linestyle": "none",
        "markersize": (8 if network == "fcn_ppm" else 6) * (0.6 if num_patients > _MAX_NAMED_PATIENTS else 1),
        "alpha": 0.9,
        "zorder": 4 if network == "fcn_ppm" else 3,
    }


def _colour(network: str) -> str:
    return COLOURS.get(network, _OTHER)


def _axes(figure: Figure, x_label: str, y_label: str) -> Axes:
    axes = figure.subplots()
    _tidy(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return axes


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9AA5B1")
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(True, axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _dot(colour: str, marker: str, label: str, alpha: float = 1.0) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=label, alpha=alpha, markersize=8)


def _legend(figure: Figure, handles: Iterable[Line2D]) -> None:
    entries = list(handles)
    figure.legend(handles=entries, loc="outside upper left", ncols=min(len(entries), 5), frameon=False, fontsize=9)
