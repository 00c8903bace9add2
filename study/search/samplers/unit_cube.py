"""Points of a search space as vectors of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from study.config.space import Choice, Domain, Point, Real, Whole


def unit(point: Mapping[str, Any], searched: Mapping[str, Domain]) -> list[float]:
    """Return a point as coordinates that each span 0-1, on the scale of each range.

    A choice has one coordinate per option. Two options are as far apart as the ends of a range. A value outside of its
    range lies outside of 0-1.
    """
    numbers: list[float] = []
    for name, domain in searched.items():
        value = point[name]
        if isinstance(domain, Choice):
            # Two options differ in two coordinates, each by √½, which together is a distance of 1.
            numbers += [np.sqrt(0.5) * (value == option) for option in domain.options]
        elif isinstance(domain, Real) and domain.log and domain.low < domain.high:
            numbers.append(np.log(value / domain.low) / np.log(domain.high / domain.low))
        else:
            numbers.append((value - domain.low) / max(domain.high - domain.low, 1))
    return numbers


def parameter_of(searched: Mapping[str, Domain]) -> list[int]:
    """Return, for each coordinate of `unit`, the index of its parameter."""
    widths = [len(domain.options) if isinstance(domain, Choice) else 1 for domain in searched.values()]
    return [index for index, width in enumerate(widths) for _ in range(width)]


def point_at(shares: Sequence[float], searched: Mapping[str, Domain]) -> Point:
    """Return the point at the given share of each domain, 0 to below 1; each option of a choice has an equal part."""
    return {name: _value_at(share, domain) for share, (name, domain) in zip(shares, searched.items(), strict=True)}


def shares_of(point: Mapping[str, Any], searched: Mapping[str, Domain]) -> list[float]:
    """Return the share of each domain at which a point lies: the inverse of `point_at`, at the middle of equal parts.

    A value outside of its domain gets the nearest share. An option that is no longer allowed gets 0.5.
    """
    return [_share_of(point[name], domain) for name, domain in searched.items()]


def _value_at(share: float, domain: Domain) -> Any:
    match domain:
        case Real(low, high, log=True):
            # Rounding may leave the range by the last digit.
            return min(max(low * (high / low) ** share, low), high)
        case Real(low, high):
            return low + share * (high - low)
        case Whole(low, high):
            return low + int(share * (high - low + 1))
        case Choice(options):
            return options[int(share * len(options))]


def _share_of(value: Any, domain: Domain) -> float:
    match domain:
        case Real(low, high, log):
            low_high = np.log([low, high]) if log else np.array([low, high])
            span = low_high[1] - low_high[0]
            share = ((np.log(value) if log else value) - low_high[0]) / span if span else 0.5
        case Whole(low, high):
            share = (value - low + 0.5) / (high - low + 1)
        case Choice(options):
            share = (options.index(value) + 0.5) / len(options) if value in options else 0.5
    return float(np.clip(share, 0.0, np.nextafter(1.0, 0.0)))
