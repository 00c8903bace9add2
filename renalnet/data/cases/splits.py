"""Who trains, who selects the model, who is held out: decided by patient, from the case's name and a seed.

A case's split follows from a threshold on a hash of its own name, not from its rank among the others, so that
adding cases later moves no one. In a cohort so small that a wanted split stays empty, the case nearest its
threshold is taken; that one choice depends on who is there, so the splits of an earlier store are kept.
Thresholds mean that shares are met on average: 24 cases at a share of 0.25 hold out 6, give or take 2.
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
    """The split of each case, in sorted order of the cases; of those that are kept, too.

    Args:
        cases: names, each once.
        config: its shares and seed decide for the cases that are not fixed.
        test_cases: a test cohort; it is held out.
        splits: splits of some or all cases, from a splits file. A test or validation split named here or by
            `test_cases` is complete: no other case is drawn into it.
        kept: the splits of an earlier store; nobody is moved.
        complete: splits that were named in full when that store was made.

    Raises:
        ConfigError: `splits` or `test_cases` name an unknown case, contradict each other or move a kept case.
    """
    named = _fixed({*cases, *(kept or {})}, test_cases or (), splits or {})
    _refuse_moves(named, kept or {})
    assigned = named | dict(kept or {})
    free = sorted(set(cases) - set(assigned))
    shares: dict[Split, float] = {"test": config.test_share, "validation": config.validation_share}
    for split, share in shares.items():
        if split not in named.values() and split not in complete:
            # Whoever is taken for a split that stayed empty must leave a case for each split that follows.
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
                f"case '{case}' is in split '{kept[case]}' of the store and named for '{split}'; nobody is moved: "
                "prepare a new store for other splits"
            )


def _draw(cases: list[str], split: Split, share: float, seed: int, *, least: int, is_empty: bool) -> list[str]:
    """The cases below the threshold; one at least for an empty split of some share; `least` cases are left."""
    ranked = sorted(cases, key=lambda case: position(case, split, seed))
    below = sum(position(case, split, seed) < share for case in cases)
    wanted = max(below, 1) if is_empty and share > 0 else below if share > 0 else 0
    return ranked[: max(min(wanted, len(cases) - least), 0)]


def position(case: str, purpose: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
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
