"""Tests of the folds of a cross-validation within a store."""

import pytest

from renalnet.data.batches.folds import Fold, fold_splits, in_fold
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError

CASES = {f"case_{number:05d}": number % 4 != 0 for number in range(22)}
"""Whether each case has a tumor; six have none."""


def held_out(number: int, num_folds: int = 5, seed: int = 0) -> set[str]:
    splits = fold_splits(CASES, Fold(number, num_folds, seed))
    assert splits.keys() == CASES.keys()
    return {case for case, split in splits.items() if split == "validation"}


def test_every_case_is_a_validation_case_once() -> None:
    parts = [held_out(number) for number in range(5)]
    assert sorted(case for part in parts for case in part) == sorted(CASES)
    assert {len(part) for part in parts} == {4, 5}
    assert {sum(not CASES[case] for case in part) for part in parts} == {1, 2}


def test_the_folds_depend_on_the_seed_alone() -> None:
    assert held_out(2) == held_out(2) != held_out(2, seed=1)
    backwards = fold_splits(dict(reversed(CASES.items())), Fold(2, 5, 0))
    assert {case for case, split in backwards.items() if split == "validation"} == held_out(2)


def test_more_folds_than_cases_are_refused() -> None:
    with pytest.raises(ConfigError, match="23 folds of 22 training and validation cases"):
        fold_splits(CASES, Fold(0, 23, 0))


def test_test_cases_stay_the_same(ball_store: Store) -> None:
    folds = [in_fold(ball_store, Fold(number, 3, seed=1)) for number in range(3)]
    assert all(fold.cases("test") == ball_store.cases("test") for fold in folds)
    assert all(len(fold.cases("train")) == 4 and len(fold.cases("validation")) == 2 for fold in folds)
    assert {tuple(fold.cases("validation")) for fold in folds} != {tuple(ball_store.cases("validation"))}
    assert folds[0].entry(folds[0].cases("validation")[0]).split == "validation"
