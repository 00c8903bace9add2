"""Planning sheets of masks with cysts and vessels."""

import numpy as np
import pytest
from support.label_sets import ARTERY, CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.config.label_columns import flat
from renalnet.planning import find_kidneys, lines_of, measure_kidney, measures_of, spread_of, value_text

CUBE_MM = (1.0, 1.0, 1.0)


def box_kidney() -> np.ndarray:
    """Return a kidney of 20 × 10 × 10 mm at low x, with 5 mm of tumor at its upper end and a cyst at its lower end."""
    labels = np.zeros((30, 12, 50), np.uint8)
    labels[5:25, 1:11, 1:11] = 1
    labels[20:25, 1:11, 1:11] = 2
    labels[2:7, 1:11, 1:11] = CYST
    return labels


def test_a_sheet_with_cysts_by_hand() -> None:
    """The kidney keeps 13 of 20 mm. The cyst has 5 mm of which 3 stick out, and a second piece."""
    labels = box_kidney()
    labels[10, 5, 5] = CYST
    (kidney,) = find_kidneys(labels, CUBE_MM, KITS23)
    sheet = measure_kidney(kidney)
    measures = measures_of(sheet)
    assert (measures.kidney_ml, measures.tumor_ml, measures.num_tumors) == (1.299, 0.5, 1)
    assert (measures.other_ml, measures.num_others) == ({"cyst": pytest.approx(0.501)}, {"cyst": 2})
    # Of 13 slices, 5 are nearer to the tumor than 6 mm, and the lost voxel of the cyst is in one of the others.
    assert measures.remaining_ml == pytest.approx(0.799)
    longest = np.linalg.norm([23, 10, 10])  # from the end of the cyst to the end of the tumor
    assert measures.kidney_length_mm == pytest.approx(longest, rel=0.1)


def test_columns_and_lines_of_cysts_follow_those_of_the_tumor() -> None:
    (kidney,) = find_kidneys(box_kidney(), CUBE_MM, KITS23)
    measures = measures_of(measure_kidney(kidney))
    columns = list(flat(measures))
    place = columns.index("num_tumors") + 1
    assert columns[place : place + 3] == ["cyst_ml", "num_cysts", "remaining_ml"]
    lines = lines_of(measures.other_ml)
    place = [line.name for line in lines].index("num_tumors") + 1
    assert [line.title for line in lines[place : place + 2]] == ["Cyst", "Pieces of cyst"]
    assert [value_text(line, measures, {}) for line in lines[place : place + 2]] == ["0.5 ml", "1"]
    assert (lines[0].title, lines_of([])[0].title) == ("Kidney without lesions", "Kidney without tumor")
    rest = [*lines[:place], *lines[place + 2 :]]
    assert rest[2:] == list(lines_of([]))[2:] and [line.name for line in rest] == [line.name for line in lines_of([])]


def test_the_default_set_has_no_column_of_cysts() -> None:
    labels = np.minimum(box_kidney(), 2).astype(np.uint8)
    (kidney,) = find_kidneys(labels, CUBE_MM, KIDNEY_TUMOR)
    columns = flat(measures_of(measure_kidney(kidney)))
    assert not [name for name in columns if "cyst" in name or "other" in name]
    assert list(columns)[:7] == [
        "side", "kidney_ml", "kidney_length_mm", "tumor_ml", "num_tumors", "remaining_ml", "remaining_share",
    ]  # fmt: skip


def test_the_spread_covers_cysts() -> None:
    smaller = box_kidney()
    smaller[2:4] = 0
    sheets = [measure_kidney(find_kidneys(labels, CUBE_MM, KITS23)[0]) for labels in (box_kidney(), smaller)]
    assert spread_of(sheets)["cyst_ml"] == pytest.approx((0.3, 0.5))


def test_a_vessel_joins_no_kidneys_and_is_left_out() -> None:
    """The vessel runs from one kidney of 18 ml to the other. Both kidneys measure as without it."""
    spacing_mm = (2.0, 2.0, 2.0)
    right = box_kidney()
    labels = np.maximum(right, right[:, :, ::-1])
    without = find_kidneys(labels, spacing_mm, KITS23)
    labels[12, 5, 11:39] = ARTERY
    labels[0, 0] = VEIN
    kidneys = find_kidneys(labels, spacing_mm, VESSELS)
    assert [kidney.side for kidney in kidneys] == ["right", "left"]
    assert [measure_kidney(kidney) for kidney in kidneys] == [measure_kidney(kidney) for kidney in without]
    assert [int(kidney.labels.max()) for kidney in kidneys] == [CYST, CYST]
