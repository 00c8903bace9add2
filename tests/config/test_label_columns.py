"""Rows with a column for each label."""

from dataclasses import dataclass

import pytest

from renalnet.config.label_columns import by_label, flat, gathered


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row with two columns for each label among its own."""

    name: str
    dice: dict[str, float] = by_label("dice_{}")
    num: dict[str, int] = by_label("num_{}s")
    num_tumors: int = 0


def test_columns_stand_where_the_field_does() -> None:
    row = Row(name="a", dice={"kidney": 0.9, "renal_vein": 0.5}, num={"cyst": 2}, num_tumors=1)
    assert list(flat(row).items()) == [
        ("name", "a"), ("dice_kidney", 0.9), ("dice_renal_vein", 0.5), ("num_cysts", 2), ("num_tumors", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("row", [Row(name="a"), Row(name="a", dice={"cyst": 0.1}, num={"cyst": 2, "renal_vein": 0})])
def test_a_row_comes_back_from_its_columns(row: Row) -> None:
    assert Row(**gathered(Row, flat(row))) == row


def test_own_columns_and_foreign_ones_are_no_labels() -> None:
    """`num_tumors` has the pattern of a label, but is a field. `dice_` has no label."""
    values = gathered(Row, {"name": "a", "num_tumors": 3, "dice_": 1.0, "other": 5, "num_cyst": 7})
    assert values == {"name": "a", "num_tumors": 3, "dice": {}, "num": {}}
