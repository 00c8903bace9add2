"""The split of a case depends on its own name."""

from pathlib import Path

import pytest

from renalnet.config import PrepareConfig
from renalnet.data.cases.splits import assign_splits, read_splits_file
from renalnet.errors import ConfigError

CONFIG = PrepareConfig()
NAMES = [f"case_{number:05d}" for number in range(400)]


def test_adding_cases_moves_no_case() -> None:
    few = assign_splits(NAMES[:60], config=CONFIG)
    many = assign_splits(NAMES, config=CONFIG)
    assert all(many[case] == split for case, split in few.items())


def test_order_does_not_matter_and_the_seed_does() -> None:
    assert assign_splits(NAMES[::-1], config=CONFIG) == assign_splits(NAMES, config=CONFIG)
    assert assign_splits(NAMES, config=PrepareConfig(seed=1)) != assign_splits(NAMES, config=CONFIG)


def test_shares_are_met_on_average() -> None:
    splits = list(assign_splits(NAMES, config=CONFIG).values())
    assert splits.count("test") == pytest.approx(100, abs=25)  # a quarter, within three standard deviations
    assert splits.count("validation") == pytest.approx(60, abs=22)  # a fifth of the rest


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
