"""Assignment of cases to training, validation and test by their names and a seed.

A case's split follows from a threshold on a hash of its name, and not from its rank among the cases. Adding cases
later therefore moves no case to another split. If a split would be empty in a small cohort, it gets the case nearest
to the threshold. That choice depends on the other cases, so the splits of an earlier store are kept.

Thresholds meet the shares on average: of 24 cases, a share of 0.25 holds out 6, with a standard deviation of about 2.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from renalnet.config import PrepareConfig, read_file
from renalnet.errors import ConfigError, nearest
from renalnet.types import SPLITS, Split


def assign_splits(
    cases: Collection[str],
    *,
    config: PrepareConfig,
    test_cases: Collection[str] | None = None,
    splits: Mapping[str, Split] | None = None,
    kept: Mapping[str, Split] | None = None,
    complete: Collection[Split] = (),
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

    Raises:
        ConfigError: `splits` or `test_cases` contain an unknown case, contradict each other or move a kept case.
    """
    named = _fixed({*cases, *(kept or {})}, test_cases or (), splits or {})
    _refuse_moves(named, kept or {})
    assigned = named | dict(kept or {})
    free = sorted(set(cases) - set(assigned))
    # Test cases are drawn first. The share of validation is that of the cases that are left.
    shares: dict[Split, float] = {"test": config.test_share, "validation": config.validation_share}
    for split, share in shares.items():
        if split not in named.values() and split not in complete:
            # A case that fills an empty split must leave one case for each split that follows.
            is_empty = split not in assigned.values()
            least = (2 if split == "test" else 1) if not kept else 0
            drawn = _draw(free, split, share, config.seed, least=least, is_empty=is_empty)
            assigned |= dict.fromkeys(drawn, split)
            free = [case for case in free if case not in drawn]
    assigned |= dict.fromkeys(free, "train")
    return {case: assigned[case] for case in sorted(assigned)}


def _refuse_moves(named: Mapping[str, Split], kept: Mapping[str, Split]) -> None:
    for case, split in named.items():
        if kept.get(case, split) != split:
            raise ConfigError(
                f"case '{case}' is in split '{kept[case]}' of the store and given as '{split}'; "
                "cases keep their split: prepare a new store for other splits"
            )


def _draw(cases: list[str], split: Split, share: float, seed: int, *, least: int, is_empty: bool) -> list[str]:
    """Return the cases below the threshold, at least one for an empty split. At least `least` cases are left."""
    ranked = sorted(cases, key=lambda case: unit_hash(case, split, seed))
    below = sum(unit_hash(case, split, seed) < share for case in cases)
    wanted = max(below, 1) if is_empty and share > 0 else below if share > 0 else 0
    return ranked[: max(min(wanted, len(cases) - least), 0)]


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
