"""Assignment of cases to training, validation and test: exact shares, drawn by a seed, alike in what they show.

Cases are ordered by what decides how difficult they are: whether they have a tumor, its volume, and the distance of
slices. A split takes one case from each of as many equal runs of this order as it needs cases. It thus has the share of
tumors, large tumors and coarse scans of the whole cohort, to within one case. A hash of name and seed chooses within a
run.

The splits of an earlier store are kept. Later cases are drawn so that the shares hold for all cases together.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any, Final

from renalnet.config import PrepareConfig, read_file
from renalnet.errors import ConfigError, nearest
from renalnet.types import SPLITS, Split

MIN_VALIDATION: Final = 5
"""Validation cases from which a search can choose. The calibration of a bundle needs as many, too."""
_VOLUME_CLASSES: Final = 3


@dataclass(frozen=True)
class Stratum:
    """What a case is drawn by."""

    has_tumor: bool = False
    volume_ml: float = 0.0
    """Volume of the tumor; without one, of the kidneys."""
    spacing_mm: float = 0.0
    """Distance of slices."""


def assign_splits(
    cases: Collection[str],
    *,
    config: PrepareConfig,
    test_cases: Collection[str] | None = None,
    splits: Mapping[str, Split] | None = None,
    kept: Mapping[str, Split] | None = None,
    complete: Collection[Split] = (),
    strata: Mapping[str, Stratum] | None = None,
) -> dict[str, Split]:
    """Return the split of each case, including the cases in `kept`, sorted by name.

    Args:
        cases: unique names.
        config: shares and seed for the cases that have no given split.
        test_cases: cases of a separate test cohort, which are held out.
        splits: splits of some or all cases, from a splits file. If it or `test_cases` lists cases of the test or the
            validation split, that split is complete, and no other case is drawn into it.
        kept: splits of an earlier store, which do not change.
        complete: splits that were given completely when that store was made.
        strata: what the cases are drawn by; without it, and for cases that it lacks, by their names alone.

    Raises:
        ConfigError: `splits` or `test_cases` contain an unknown case, contradict each other or move a kept case.
    """
    named = _fixed({*cases, *(kept or {})}, test_cases or (), splits or {})
    _refuse_moves(named, kept or {})
    assigned = named | dict(kept or {})
    free = _in_order(set(cases) - set(assigned), strata or {}, config.seed)
    # Cases of a split that is given are not counted, because the shares are those of the cases that are drawn.
    pool = [*free, *(case for case, split in (kept or {}).items() if case not in named and split not in complete)]
    # Test cases are drawn first. The share of validation is that of the cases that are left.
    shares: dict[Split, float] = {"test": config.test_share, "validation": config.validation_share}
    for split, share in shares.items():
        if split in named.values() or split in complete:
            continue
        # A case that fills an empty split must leave one case for each split that follows.
        least = (2 if split == "test" else 1) if not kept else 0
        held = [case for case in pool if assigned.get(case) == split]
        wanted = _wanted(share, len(pool), is_empty=split not in assigned.values()) - len(held)
        drawn = _draw(free, split, max(min(wanted, len(free) - least), 0), config.seed)
        assigned |= dict.fromkeys(drawn, split)
        free = [case for case in free if case not in assigned]
        pool = [case for case in pool if assigned.get(case) != split]
    assigned |= dict.fromkeys(free, "train")
    return {case: assigned[case] for case in sorted(assigned)}


def _wanted(share: float, num_cases: int, *, is_empty: bool) -> int:
    """Return the cases of a split, rounded; at least one for a split that has none."""
    exact = floor(share * num_cases + 0.5)
    return max(exact, 1) if is_empty and share > 0 else exact


def _in_order(cases: Collection[str], strata: Mapping[str, Stratum], seed: int) -> list[str]:
    """Return cases by tumor, class of volume and distance of slices; cases that agree in all are shuffled."""
    of_case = {case: strata.get(case, Stratum()) for case in cases}
    by_volume = sorted(cases, key=lambda case: (of_case[case].has_tumor, of_case[case].volume_ml, case))
    order: list[str] = []
    for has_tumor in (False, True):
        alike = [case for case in by_volume if of_case[case].has_tumor == has_tumor]
        classes = {case: rank * _VOLUME_CLASSES // len(alike) for rank, case in enumerate(alike)}
        keys = {case: (classes[case], of_case[case].spacing_mm, unit_hash(case, "order", seed)) for case in alike}
        order += sorted(alike, key=lambda case: keys[case])
    return order


def few_validation(count: int, least: int = MIN_VALIDATION) -> str:
    """Return what a search on too few validation cases means, and the remedy, as one line."""
    cases = "case" if count == 1 else "cases"
    return (
        f"{count} validation {cases}, fewer than {least}: the choice of the winner and of its post-processing rests on "
        "them; add cases, raise validation_share, or let folds choose the winner with --set final.folds=5"
    )


def _refuse_moves(named: Mapping[str, Split], kept: Mapping[str, Split]) -> None:
    for case, split in named.items():
        if kept.get(case, split) != split:
            raise ConfigError(
                f"case '{case}' is in split '{kept[case]}' of the store and given as '{split}'; "
                "cases keep their split: prepare a new store for other splits"
            )


def _draw(ordered: Sequence[str], split: Split, count: int, seed: int) -> list[str]:
    """Return `count` cases, one of each of as many runs of the order. Runs differ in length by one case at most."""
    total = len(ordered)
    runs = (ordered[number * total // count : (number + 1) * total // count] for number in range(count))
    return [min(run, key=lambda case: unit_hash(case, split, seed)) for run in runs]


def unit_hash(case: str, purpose: str, seed: int) -> float:
    """Return a number in [0, 1) that depends only on the arguments, and is uniformly distributed over names."""
    # With the same hash for test and validation, no case that is left could be below a smaller share of validation.
    # The first eight bytes of a SHA-256 digest are uniform, and the same in every process and version of Python.
    digest = hashlib.sha256(f"{seed}:{purpose}:{case}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _fixed(cases: Collection[str], test_cases: Collection[str], splits: Mapping[str, Split]) -> dict[str, Split]:
    for case in (*test_cases, *splits):
        if case not in cases:
            raise ConfigError(f"splits name an unknown case '{case}'; {nearest(case, cases)}")
    for case in test_cases:
        if splits.get(case, "test") != "test":
            raise ConfigError(
                f"case '{case}' is in the test cohort and in split '{splits[case]}'; keep it in one of them"
            )
    return {**splits, **dict.fromkeys(test_cases, "test")}


def read_splits_file(path: str | Path) -> dict[str, Split]:
    """Read a YAML or JSON file that maps a split to a list of cases, such as `test: [case_00003, case_00007]`.

    Raises:
        ConfigError: the file is not such a mapping, or contains an unknown split or a case twice.
    """
    assigned: dict[str, Split] = {}
    for name, case in _entries(read_file(path), path):
        split = next((known for known in SPLITS if known == name), None)
        if split is None:
            raise ConfigError(f"{path}: unknown split '{name}'; {nearest(name, SPLITS)}")
        if case in assigned:
            raise ConfigError(f"{path}: case '{case}' appears twice ({assigned[case]}, {split}); list it once")
        assigned[case] = split
    return assigned


def _entries(values: dict[str, Any], path: str | Path) -> Iterator[tuple[str, str]]:
    for name, cases in values.items():
        if not isinstance(cases, list):
            raise ConfigError(f"{path}: {name} = {cases!r}: must be a list of case names")
        for case in cases:
            yield str(name), str(case)
