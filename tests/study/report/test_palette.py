"""Colors of the figures: those that appear in one figure differ."""

from collections.abc import Iterable

import pytest

from renalnet.config.labels import LABEL_SETS
from renalnet.config.networks import MAIN_NETWORK, NETWORKS
from study.report.analysis.methods import LOOKS, Looks
from study.report.analysis.palette import (
    FAINT,
    FREE_COLORS,
    INK,
    STATE_COLORS,
)

NAMES = [f"program-{number}" for number in range(8)]
METHODS = [Looks(NAMES)[name].color for name in (*LOOKS, *NAMES)]
FIGURES = {
    "learning curves": [INK, *METHODS],
    "parallel coordinates": [INK, LOOKS[MAIN_NETWORK].color],
    "test cases": METHODS,
    "volume agreement": [INK, LOOKS[MAIN_NETWORK].color],
    "expected Dice": [FAINT, LOOKS[MAIN_NETWORK].color],
    "pruning": [FAINT, *STATE_COLORS.values()],
    **{f"slices of {each.name}": [label.color for label in each.labels] for each in LABEL_SETS.values()},
}


def twice(colors: Iterable[str]) -> list[str]:
    upper = [color.upper() for color in colors]
    return sorted({color for color in upper if upper.count(color) > 1})


@pytest.mark.parametrize("figure", FIGURES)
def test_colors_of_one_figure_differ(figure: str) -> None:
    assert twice(FIGURES[figure]) == []


def test_no_state_has_the_color_of_a_network() -> None:
    assert twice([*STATE_COLORS.values(), *(entry.color for entry in NETWORKS.values())]) == []


def test_a_free_color_of_a_network_is_not_given_to_a_program() -> None:
    known = {look.color for look in LOOKS.values()}
    assert {Looks(NAMES)[name].color for name in NAMES}.isdisjoint(known)
    assert set(FREE_COLORS) - known <= {Looks(NAMES)[name].color for name in NAMES}
