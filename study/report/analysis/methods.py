"""How the report shows each method and stage: title, color, marker and place in the tables.

The networks are those of `renalnet.config.networks`. Any other name (another program's masks, or a network of another
version) is its own title, and gets a color and a marker of its own.
"""

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

from renalnet.config.inference import OPERATIONS
from renalnet.config.networks import NETWORKS, NetworkEntry, PaperRow
from renalnet.evaluation.intensity_rules import THRESHOLD_INSIDE, THRESHOLD_ROI
from renalnet.inference.post_processing import FINAL, NETWORK, stage_name
from study.records.content import ResultsContent
from study.records.tables import ADDED, APPENDIX, BASELINE, PAPER, RULE, WINNER, Measurement, Role
from study.report.analysis.palette import FREE_COLORS, INSIDE_COLOR, WINDOWS_COLOR

COMPARED: Final = (PAPER, BASELINE, RULE, ADDED)
"""Roles of the methods that the winner is compared with."""


@dataclass(frozen=True)
class Look:
    """How tables and figures show one network, rule or program."""

    title: str
    short_title: str
    """Title for narrow columns."""
    color: str
    """Color in figures, `#RRGGBB`."""
    marker: str
    """Matplotlib marker in figures."""


def _look_of(entry: NetworkEntry) -> Look:
    return Look(entry.title, entry.title, entry.color, entry.marker)


LOOKS: Final[dict[str, Look]] = {
    # The paper's Table I ends with 3D_FCN_PPM, the first entry of `NETWORKS`.
    **{name: _look_of(NETWORKS[name]) for name in reversed(list(NETWORKS))},
    THRESHOLD_ROI: Look("Intensity windows, whole ROI", "windows in ROI", WINDOWS_COLOR, "x"),
    THRESHOLD_INSIDE: Look("One threshold, inside the true region", "threshold in region", INSIDE_COLOR, "+"),
}
"""Known names in the order of the tables: the networks, then the intensity rules."""
_USED: Final = {mark for look in LOOKS.values() for mark in (look.color, look.marker)}
# A network may have one of them.
_FREE_COLORS: Final = tuple(color for color in FREE_COLORS if color not in _USED)
_FREE_MARKERS: Final = tuple(marker for marker in ("D", "v", "P", "X", "<", ">", "h") if marker not in _USED)
_GOLDEN_RATIO: Final = 0.618034
"""Share of the color circle between two further hues; multiples of it never come close to each other."""


def _stage_titles() -> dict[str, str]:
    """Return the title of the stage after each combination of the declared operations, as `stages_of` names them."""
    titles: dict[tuple[str, ...], str] = {(): "network"}
    for operation in OPERATIONS.values():
        added = operation.title.removeprefix("the ")
        # Each operation doubles the combinations: those without it stay.
        titles |= {(*names, operation.stage): f"{title} + {added}" for names, title in titles.items()}
    return {stage_name(names): title for names, title in titles.items()} | {NETWORK: "network alone"}


STAGES: Final = {**_stage_titles(), FINAL: "final (post-processing chosen on validation cases)"}
"""Titles of the known stages of inference, in their order."""


class Method(NamedTuple):
    """Whatever produced a set of masks: a finalist, an intensity rule, or another program."""

    network: str
    """Key of the network, name of the rule, or name of the program."""
    checkpoint: str
    """Name of the finalist; empty for a rule or a program."""
    role: Role

    @property
    def title(self) -> str:
        """The title for people, with the finalist in the appendix, which shows several of one network."""
        title = title_of(self.network)
        added = {APPENDIX: f" ({self.checkpoint})", PAPER: " with the paper’s values"}
        return f"{title}{added.get(self.role, '')}"


def method_of(row: Measurement) -> Method:
    """Return the method that produced the mask of a row."""
    return Method(row.network, row.checkpoint, row.role)


def method_place(method: Method) -> tuple[int, bool, str]:
    """Return the key that sorts methods in tables: networks, the winner last of its own, rules, then unknown names."""
    return _place(method.network), method.role == WINNER, method.checkpoint


def in_order(names: Iterable[str]) -> list[str]:
    """Return each name once, as legends show them: networks, rules, then unknown names by alphabet."""
    return sorted(set(names), key=lambda name: (_place(name), name))


def _place(name: str) -> int:
    # Unknown names share the last place, so that their own order decides.
    return list(LOOKS).index(name) if name in LOOKS else len(LOOKS)


def title_of(name: str) -> str:
    """Return the title of a network or rule; an unknown name is its own title."""
    return LOOKS[name].title if name in LOOKS else name


def short_title_of(name: str) -> str:
    """Return the title for narrow columns; an unknown name is its own title."""
    return LOOKS[name].short_title if name in LOOKS else name


def paper_row(method: Method) -> PaperRow | None:
    """Return the paper's row of the method's network; None where the paper has none, and for the appendix."""
    # The paper has one row for 3D_FCN_PPM, which the winner takes.
    is_in_paper = method.network in NETWORKS and method.role != APPENDIX
    return NETWORKS[method.network].paper if is_in_paper else None


def stage_title(stage: str) -> str:
    """Return the title of a stage of inference; an unknown stage is shown by its name."""
    return STAGES.get(stage, stage.replace("_", " "))


def stage_place(stage: str) -> tuple[bool, int]:
    """Return the key that sorts stages: known ones in their order, unknown ones before the final one."""
    return stage == FINAL, list(STAGES).index(stage) if stage in STAGES else len(STAGES)


class Looks:
    """The looks of all names in one report: each name has the same color in every figure."""

    def __init__(self, names: Iterable[str]) -> None:
        """Give each unknown name a color and a marker; the same names get the same ones."""
        # Sorted, because the place decides the color and sets have no fixed order.
        unknown = sorted(set(names) - LOOKS.keys())
        self._looks = LOOKS | {name: _free_look(name, place) for place, name in enumerate(unknown)}

    def __getitem__(self, name: str) -> Look:
        """Return the look of a name. Raises KeyError for an unknown name that was not given before."""
        return self._looks[name]


def names_in(content: ResultsContent) -> set[str]:
    """Return the names of all networks, rules and programs in a results folder."""
    rows: Iterable[Any] = chain(
        content.trials or [], content.epochs or [], content.measurements or [], content.importances
    )
    return {row.network for row in rows}


def _free_look(name: str, place: int) -> Look:
    color = _FREE_COLORS[place] if place < len(_FREE_COLORS) else _hue(place)
    return Look(name, name, color, _FREE_MARKERS[place % len(_FREE_MARKERS)])


def _hue(place: int) -> str:
    # A value of 0.6 is dark enough for a white page.
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(place * _GOLDEN_RATIO % 1, 0.75, 0.6))
    return f"#{red:02X}{green:02X}{blue:02X}"
