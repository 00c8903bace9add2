"""Searched parameters as groups of trials: one group per option, per whole number, or per third of the values.

The importance of a parameter, its marginal effect and its interaction are all computed from the same groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MIN_GROUP: Final = 3
"""Trials that a group needs to be compared with others: fewer do not show how much they vary."""
_MOST_VALUES: Final = 4
"""Different numbers up to which each one is a group of its own, such as the milestones 2 to 5."""

Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Group:
    """A group of trials by the value of one parameter."""

    title: str
    """The option or number, or `0.5 to 1.9` for a third of the values."""
    low: float | None = None
    """Lowest value of its whole trials; None for an option, which has no order."""
    high: float | None = None
    """Highest value of its whole trials, likewise."""


@dataclass(frozen=True, eq=False)
class Factor:
    """A searched parameter, and the group of each whole trial."""

    parameter: str
    groups: tuple[Group, ...]
    """In the order of their values, or of the options."""
    codes: Codes
    """Index of the group of each whole trial, shape (n,)."""

    @property
    def sizes(self) -> Codes:
        """Number of whole trials of each group."""
        return np.bincount(self.codes, minlength=len(self.groups))

    @property
    def is_comparable(self) -> bool:
        """Whether at least two groups have enough trials."""
        return int((self.sizes >= MIN_GROUP).sum()) > 1

    def group_of(self, value: str | float) -> int:
        """Return the index of the group of a value, which no whole trial need have."""
        if self.groups[0].high is None:
            return [group.title for group in self.groups].index(str(value))
        highs = [group.high or 0.0 for group in self.groups[:-1]]
        return int(np.searchsorted(highs, float(value)))


def choice_factor(parameter: str, values: Sequence[str | int], options: Sequence[str | int]) -> Factor:
    """Return a parameter without an order; a group may have no trials."""
    codes = np.array([options.index(value) for value in values], dtype=np.intp)
    return Factor(parameter, tuple(Group(str(option)) for option in options), codes)


def number_factor(parameter: str, values: Sequence[float]) -> Factor:
    """Return a parameter that is a number: one group per number, or thirds of the values if there are many.

    Thirds are used instead of a scale, so that whatever the sampler prefers, each group has trials.
    """
    numbers = np.asarray(values, dtype=np.float64)
    distinct = np.unique(numbers)
    if len(distinct) <= _MOST_VALUES:
        return Factor(parameter, tuple(_single(value) for value in distinct), np.searchsorted(distinct, numbers))
    cuts = np.unique(np.quantile(numbers, [1 / 3, 2 / 3], method="inverted_cdf"))
    # A cut at the highest value, as of a number that most trials have, leaves no trials above it.
    codes = np.searchsorted(cuts[cuts < distinct[-1]], numbers)
    return Factor(parameter, tuple(_range(numbers[codes == code]) for code in range(codes.max() + 1)), codes)


def _single(value: float) -> Group:
    return Group(f"{value:.3g}", float(value), float(value))


def _range(values: NDArray[np.float64]) -> Group:
    low = float(values.min())
    high = float(values.max())
    return Group(f"{low:.3g} to {high:.3g}", low, high) if low < high else _single(low)
