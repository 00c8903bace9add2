"""What the study learned about its searched parameters, and the space that it suggests to the next study.

A parameter keeps its range or options unless it is important. Of an important one, the best group is the one with the
highest mean objective. Groups whose interval overlaps that of the best one stay, and so do groups without an interval.
A range is narrowed to the groups that stay and what lies between them; its ends do not move where the outer group
stays. The two gaps between milestones have one range, which holds what either keeps.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from renalnet.config.networks import MAIN_NETWORK
from renalnet.config.training import SHARE_SUFFIX
from study.config.sections import WEIGHT_SUFFIX
from study.config.space import GAPS, KERNELS, kernel_name
from study.records.content import ResultsContent
from study.records.tables import IMPORTANT, Effect, Importance, InteractionCell
from study.report.analysis.methods import in_order, title_of

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
_FIELDS: Final = {KERNELS: "kernel_sets", **dict.fromkeys(GAPS, "step_gap")}
"""Field of the space of each parameter that has another name."""
_EARLIER: Final = (
    "The importances were computed by an earlier version, from few trials and without a test; run the study's command "
    "again."
)
_DIGITS: Final = 3
"""Significant digits of a suggested range."""


@dataclass(frozen=True)
class Suggestion:
    """A narrower range, or fewer options, for the next study."""

    field: str
    """Field of the space."""
    before: str
    """Range or options of this study, as JSON."""
    after: str
    """Those suggested, as JSON."""
    option: str
    """The option of `study.run` that sets them, quoted for a shell."""
    reason: str
    """Mean objectives that decide, one sentence."""


@dataclass(frozen=True)
class Learned:
    """What is shown of importances, effects and interaction."""

    importances: list[Importance]
    """Rows with a number and a test, by network in the order of the tables, the most important first."""
    notes: list[str]
    """Sentences on networks without importances, and on the verdict for the others."""
    effects: list[Effect]
    """Of 3D_FCN_PPM; other networks are in the table only."""
    interaction: list[InteractionCell]
    """Of 3D_FCN_PPM; empty where there is none."""
    interaction_note: str
    """What the interaction shows, or why there is none; one sentence. Empty without importances."""
    suggestions: list[Suggestion]


def parameter_title(parameter: str) -> str:
    """Return the title of a searched parameter for people; an unknown parameter is its own title."""
    for end, title in _LABEL_PARAMETERS.items():
        if parameter.endswith(end):
            return title.format(parameter.removesuffix(end).replace("_", " "))
    return PARAMETERS.get(parameter, parameter)


def learned_of(content: ResultsContent) -> Learned:
    """Return what the tables of a results folder say about the searched parameters."""
    networks = in_order(row.network for row in content.importances)
    tested = [row for name in networks for row in content.importances if row.network == name and _is_tested(row)]
    own = [row for row in tested if row.network == MAIN_NETWORK]
    effects = [row for row in content.effects if row.network == MAIN_NETWORK]
    cells = [row for row in content.interactions if row.network == MAIN_NETWORK]
    return Learned(
        importances=tested,
        notes=_notes(content.importances),
        effects=effects,
        interaction=cells if cells and cells[0].share is not None else [],
        interaction_note=_interaction_note(own, cells) if own else "",
        suggestions=_suggestions(own, effects, content.manifest.config.get("space", {})),
    )


def _is_tested(row: Importance) -> bool:
    return row.importance is not None and row.p_value is not None


def _notes(rows: Sequence[Importance]) -> list[str]:
    if any(not row.verdict for row in rows):
        return [_EARLIER]
    return [note for name in in_order(row.network for row in rows) for note in _network_notes(name, rows)]


def _network_notes(network: str, rows: Sequence[Importance]) -> list[str]:
    """Return a sentence on the important parameters of a network, then one on each that was not compared."""
    own = [row for row in rows if row.network == network]
    left_out = [row for row in own if not _is_tested(row)]
    if len(left_out) == len(own):
        # Not one sentence per parameter, where the trials are too few for all of them.
        return [f"{title_of(network)}: {verdict}." for verdict in dict.fromkeys(row.verdict for row in own)]
    named = [f"{parameter_title(row.parameter)} (p {row.p_value:.3f})" for row in own if row.verdict == IMPORTANT]
    first = f"important: {', '.join(named)}" if named else "no parameter is shown to be important"
    about = [f"{title_of(network)}, {own[0].num_trials} complete trials: {first}."]
    return about + [f"{title_of(network)}, {parameter_title(row.parameter)}: {row.verdict}." for row in left_out]


def _interaction_note(importances: Sequence[Importance], cells: Sequence[InteractionCell]) -> str:
    if sum(row.verdict == IMPORTANT for row in importances) < 2:
        return "No interaction is shown: fewer than two parameters are important."
    if not cells or cells[0].share is None or cells[0].p_value is None:
        return "No interaction is shown: too few trials share the values of the two most important parameters."
    both = f"{parameter_title(cells[0].first)} and {parameter_title(cells[0].second)}"
    return (
        f"Beyond the sum of their effects, {both} together explain {cells[0].share:.2f} of the objective's variation "
        f"(p {cells[0].p_value:.3f})."
    )


def _suggestions(
    importances: Sequence[Importance], effects: Sequence[Effect], space: dict[str, Any]
) -> list[Suggestion]:
    important = [row.parameter for row in importances if row.verdict == IMPORTANT]
    fields = dict.fromkeys(_FIELDS.get(name, name) for name in important)
    found = [_suggestion(field, important, effects, space[field]) for field in fields if space.get(field)]
    return [one for one in found if one is not None]


def _suggestion(
    field: str, important: Sequence[str], effects: Sequence[Effect], before: list[Any]
) -> Suggestion | None:
    """Return the suggestion for a field of the space; None where the field keeps its value."""
    names = [name for name in dict.fromkeys(row.parameter for row in effects) if _FIELDS.get(name, name) == field]
    groups = {name: [row for row in effects if row.parameter == name] for name in names if name in important}
    # An unimportant parameter of the same field keeps the whole range, and so does the field.
    if not groups or len(groups) < len(names):
        return None
    # Options have no order and no limits.
    narrow = _narrowed if all(row.group_low is not None for rows in groups.values() for row in rows) else _fewer
    after = narrow(list(groups.values()), before)
    if after == list(before):
        return None
    setting = f"space.{field}={json.dumps(after, separators=(',', ':'))}"
    reason = " ".join(_reason(name, rows) for name, rows in groups.items())
    return Suggestion(field, json.dumps(before), json.dumps(after), f"--set {shlex.quote(setting)}", reason)


def _kept(rows: Sequence[Effect]) -> list[bool]:
    """Return whether each group stays: its interval overlaps that of the best one, or it has none."""
    best = _best(rows)
    # Both bounds are None, or neither is.
    return [row.high is None or best.low is None or row.high >= best.low for row in rows]


def _best(rows: Sequence[Effect]) -> Effect:
    known = [row for row in rows if row.low is not None] or rows
    return max(known, key=lambda row: row.mean_objective or 0.0)


def _fewer(groups: Sequence[Sequence[Effect]], before: list[Any]) -> list[Any]:
    """Return the options that stay; one that no trial had stays as well."""
    dropped = {row.group for rows in groups for row, stays in zip(rows, _kept(rows), strict=True) if not stays}
    return [option for option in before if _option_name(option) not in dropped]


def _option_name(option: Any) -> str:
    return kernel_name(tuple(option)) if isinstance(option, list | tuple) else str(option)


def _narrowed(groups: Sequence[Sequence[Effect]], before: list[Any]) -> list[Any]:
    """Return the range that holds what each parameter keeps, within the range of this study."""
    limits = [_limits(rows, before) for rows in groups]
    return [min(low for low, _ in limits), max(high for _, high in limits)]


def _limits(rows: Sequence[Effect], before: list[Any]) -> tuple[Any, Any]:
    stays = [index for index, is_kept in enumerate(_kept(rows)) if is_kept]
    low = before[0] if stays[0] == 0 else _rounded(rows[stays[0]].group_low, before)
    high = before[1] if stays[-1] == len(rows) - 1 else _rounded(rows[stays[-1]].group_high, before)
    return low, high


def _rounded(value: float | None, before: list[Any]) -> Any:
    """Return a limit with few digits, of the type of the range and within it."""
    kind = int if all(isinstance(limit, int) for limit in before) else float
    return min(max(kind(float(f"{value or 0.0:.{_DIGITS}g}")), before[0]), before[1])


def _reason(parameter: str, rows: Sequence[Effect]) -> str:
    best = _best(rows)
    dropped = [row for row, stays in zip(rows, _kept(rows), strict=True) if not stays]
    others = ", ".join(map(_mean_text, dropped))
    title = parameter_title(parameter)
    if not dropped:
        return f"{title}: nothing is clearly worse than {_mean_text(best)}."
    return f"{title}: {_mean_text(best)} is the best; clearly worse: {others}."


def _mean_text(row: Effect) -> str:
    interval = "" if row.low is None or row.high is None else f" ({row.low:.3f} to {row.high:.3f})"
    return f"{row.group}, mean objective {row.mean_objective or 0.0:.3f}{interval}"
