"""Shares are exact, splits are alike, and no case moves."""

from collections import Counter
from pathlib import Path

import pytest

from renalnet.config import PrepareConfig
from renalnet.data.cases.splits import Stratum, assign_splits, read_splits_file
from renalnet.errors import ConfigError

CONFIG = PrepareConfig()
NAMES = [f"case_{number:05d}" for number in range(400)]


def test_adding_cases_moves_no_case() -> None:
    few = assign_splits(NAMES[:60], config=CONFIG)
    many = assign_splits(NAMES, config=CONFIG, kept=few)
    assert all(many[case] == split for case, split in few.items())
    # The shares hold for all cases together, whatever the first ones got.
    assert Counter(many.values()) == {"test": 100, "validation": 60, "train": 240}
    crowded = assign_splits(NAMES, config=CONFIG, kept=dict.fromkeys(NAMES[:90], "test"))
    assert Counter(crowded.values()) == {"test": 100, "validation": 60, "train": 240}


def test_order_does_not_matter_and_the_seed_does() -> None:
    assert assign_splits(NAMES[::-1], config=CONFIG) == assign_splits(NAMES, config=CONFIG)
    assert assign_splits(NAMES, config=PrepareConfig(seed=1)) != assign_splits(NAMES, config=CONFIG)


@pytest.mark.parametrize(("count", "expected"), [(12, (3, 2, 7)), (40, (10, 6, 24)), (400, (100, 60, 240))])
@pytest.mark.parametrize("seed", [0, 1])
def test_shares_are_exact(count: int, expected: tuple[int, int, int], seed: int) -> None:
    """A quarter is test, and a fifth of the rest validation: of 9 cases 1.8, rounded to 2."""
    found = Counter(assign_splits(NAMES[:count], config=PrepareConfig(seed=seed)).values())
    assert (found["test"], found["validation"], found["train"]) == expected


def test_splits_have_the_tumors_volumes_and_spacings_of_the_cohort() -> None:
    """Of 40 cases, 8 are healthy, and 16 each have thin and thick slices beside a small or a large tumor."""
    strata = {
        case: Stratum(number >= 8, 100.0 if number >= 24 else 5.0, 5.0 if number % 2 else 1.0)
        for number, case in enumerate(NAMES[:40])
    }
    for seed in range(4):
        splits = assign_splits(NAMES[:40], config=PrepareConfig(seed=seed), strata=strata)
        for split, count in (("test", 10), ("validation", 6)):
            inside = [strata[case] for case, name in splits.items() if name == split]
            assert len(inside) == count
            for share, of_case in (
                (0.8, [one.has_tumor for one in inside]),
                (0.4, [one.volume_ml == 100 for one in inside]),
                (0.5, [one.spacing_mm == 5 for one in inside]),
            ):
                # Each run is alike in the first; it may be mixed in the others.
                assert sum(of_case) == pytest.approx(share * count, abs=1.5), (seed, split, share)


def test_a_later_case_evens_out_what_the_first_ones_got() -> None:
    kept = assign_splits(NAMES[:12], config=CONFIG)
    assert list(kept.values()).count("test") == 3
    # A quarter of 13 cases is 3.25, of 14 cases 3.5.
    assert assign_splits(NAMES[:13], config=CONFIG, kept=kept)[NAMES[12]] != "test"
    assert Counter(assign_splits(NAMES[:14], config=CONFIG, kept=kept).values())["test"] == 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "expected"), [(1, {"train"}), (2, {"train", "validation"})])
def test_tiny_cohorts_train_first_then_select(count: int, expected: set[str], seed: int) -> None:
    assert set(assign_splits(NAMES[:count], config=PrepareConfig(seed=seed)).values()) == expected


@pytest.mark.parametrize("count", range(3, 12))
@pytest.mark.parametrize("share", [0.01, 0.25, 0.9])
def test_three_cases_or_more_fill_every_split(count: int, share: float) -> None:
    config = PrepareConfig(test_share=share, validation_share=share)
    assert set(assign_splits(NAMES[:count], config=config).values()) == {"train", "validation", "test"}


def test_zero_shares_leave_splits_empty() -> None:
    config = PrepareConfig(test_share=0, validation_share=0)
    assert set(assign_splits(NAMES, config=config).values()) == {"train"}


def test_only_the_test_cohort_is_held_out() -> None:
    assigned = assign_splits(NAMES[:30], config=CONFIG, test_cases=NAMES[5:8])
    assert [case for case, split in assigned.items() if split == "test"] == NAMES[5:8]


def test_named_splits_are_kept_and_complete() -> None:
    assigned = assign_splits(NAMES[:5], config=CONFIG, splits={NAMES[0]: "test", NAMES[1]: "validation"})
    assert list(assigned.values()) == ["test", "validation", "train", "train", "train"]


def test_unknown_and_contradicting_cases_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown case 'case_0000x'; did you mean"):
        assign_splits(NAMES[:3], config=CONFIG, splits={"case_0000x": "test"})
    with pytest.raises(ConfigError, match="in the test cohort and in split 'train'"):
        assign_splits(NAMES[:3], config=CONFIG, splits={NAMES[0]: "train"}, test_cases=[NAMES[0]])


def test_splits_file_in_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("test: [a, b]\ntrain: [c]\n")
    (tmp_path / "a.json").write_text('{"test": ["a", "b"], "train": ["c"]}')
    expected = {"a": "test", "b": "test", "c": "train"}
    assert read_splits_file(tmp_path / "a.yaml") == read_splits_file(tmp_path / "a.json") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tset: [a]", "unknown split 'tset'; did you mean 'test'"),
        ("test: [a]\ntrain: [a]", "case 'a' appears twice"),
        ("test: a", "must be a list of case names"),
        ("- a", "holds a list, not a mapping of keys to values"),
    ],
)
def test_wrong_splits_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "splits.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_splits_file(tmp_path / "splits.yaml")
