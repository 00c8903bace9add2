"""Who trains, who selects the model, who is held out: decided by patient, from the case's name and a seed.

A case's split follows from a threshold on a hash of its own name, not from its rank among the others, so that
adding cases later moves no one. In a cohort so small that a wanted split stays empty, the case nearest its
threshold is taken; that one choice depends on who is there, so whoever adds cases to it passes the old
splits. Thresholds mean that shares are met on average: 24 cases at a share of 0.25 hold out 6, give or take
2.
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
) -> dict[str, Split]:
    """The split of each case, in sorted order of the cases.

    Args:
        cases: names, each once.
        config: its shares and seed decide for the cases that are not fixed.
        test_cases: a test cohort; it is held out.
        splits: splits of some or all cases (a splits file, or those of an earlier store). A test or
            validation split named here or by `test_cases` is complete: no other case is drawn into it.

    Raises:
        ConfigError: `splits` or `test_cases` name an unknown case, or contradict each other.
    """
    assigned = _fixed(cases, test_cases or (), splits or {})
    free = sorted(set(cases) - set(assigned))
    shares: dict[Split, float] = {"test": config.test_share, "validation": config.validation_share}
    for split, share in shares.items():
        if split not in assigned.values():
            # Whoever is taken for a split that stayed empty must leave a case for each split that follows.
            drawn = _draw(free, split, share, config.seed, keep=2 if split == "test" else 1)
            assigned |= dict.fromkeys(drawn, split)
            free = [case for case in free if case not in drawn]
    assigned |= dict.fromkeys(free, "train")
    return {case: assigned[case] for case in sorted(cases)}


def _draw(cases: list[str], split: Split, share: float, seed: int, keep: int) -> list[str]:
    """The cases below the threshold, at least one if the share is not zero; `keep` cases are always left."""
    ranked = sorted(cases, key=lambda case: _position(case, split, seed))
    below = sum(_position(case, split, seed) < share for case in cases)
    wanted = max(below, 1) if share > 0 else 0
    return ranked[: max(min(wanted, len(cases) - keep), 0)]


def _position(case: str, split: Split, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}:{split}:{case}".encode()).digest()
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
    """Read a YAML or JSON mapping of split to a list of cases, e.g. `test: [case_00003, case_00007]`.

    Raises:
        ConfigError: the file is not such a mapping, names an unknown split, or a case twice.
    """
    assigned: dict[str, Split] = {}
    for name, case in _entries(read_file(path), path):
        split = next((known for known in SPLITS if known == name), None)
        if split is None:
            raise ConfigError(f"{path}: unknown split '{name}'; {nearest(name, SPLITS)}")
        if case in assigned:
            raise ConfigError(f"{path}: case '{case}' comes twice ({assigned[case]}, {split}); name it once")
        assigned[case] = split
    return assigned


def _entries(values: dict[str, Any], path: str | Path) -> Iterator[tuple[str, str]]:
    for name, cases in values.items():
        if not isinstance(cases, list):
            raise ConfigError(f"{path}: {name} = {cases!r}: must be a list of case names")
        for case in cases:
            yield str(name), str(case)
