"""Label maps, label values and names of segments."""

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.images.label_values import class_of_segment_name, classes_of_segments, parse_label_map, to_classes
from renalnet.errors import ConfigError, InputError


def test_label_map_is_read() -> None:
    assert parse_label_map("3=1, 4=0,10 = 2", KIDNEY_TUMOR) == {3: 1, 4: 0, 10: 2}


@pytest.mark.parametrize("text", ["", "3", "3=", "=1", "3=3", "a=1", "3=1,", "-3=1", "3=1;4=0", "3=1=2", "1.5=1"])
def test_nonsense_is_no_label_map(text: str) -> None:
    with pytest.raises(ConfigError, match="must read LABEL=0, LABEL=1 or LABEL=2"):
        parse_label_map(text, KIDNEY_TUMOR)


def test_a_label_is_mapped_once() -> None:
    with pytest.raises(ConfigError, match="label 3 appears twice"):
        parse_label_map("3=1,3=2", KIDNEY_TUMOR)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_values_are_mapped_and_others_mean_themselves(dtype: type[np.generic]) -> None:
    values = np.arange(6).reshape(1, 2, 3).astype(dtype)
    classes = to_classes(values, "label.nii", KIDNEY_TUMOR, {3: 1, 4: 0, 5: 2})
    assert classes.dtype == np.uint8
    assert classes.ravel().tolist() == [0, 1, 2, 1, 0, 2]


def test_the_map_may_swap_kidney_and_tumor() -> None:
    assert to_classes(np.array([0, 1, 2]), "label.nii", KIDNEY_TUMOR, {1: 2, 2: 1}).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 3], r"label value 3 is none of .* a cyst\); state its meaning: --label-map 3=1 \(kidney\), 3=2 \(tumor\)"),
        ([4, 7, 9], r"label value 4 is none of .* \(nor are 2 other values\); state its meaning: --label-map 4=1"),
        ([0.5], r"label value 0\.5 is none of 0 background, 1 kidney, 2 tumor; relabel the file"),
        ([-1], r"label value -1 is none of .*; relabel the file"),
        ([np.nan], r"label value nan is none of .*; relabel the file"),
    ],
)
def test_values_without_meaning_are_refused(values: list[float], words: str) -> None:
    with pytest.raises(InputError, match=rf"^label\.nii: {words}"):
        to_classes(np.array(values), "label.nii", KIDNEY_TUMOR, {})


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Kidney", 1),
        ("LEFT KIDNEY", 1),
        ("kidney_right", 1),
        ("Renal", 1),
        ("tumor", 2),
        ("Renal Tumour", 2),
        ("kidney-lesion 1", 2),
        ("Mass of the left kidney", 2),
        ("Malignant neoplasm of right kidney", 2),
        ("Renal cyst", None),
        ("Renal vein", None),
        ("adrenal gland", None),
        ("Liver lesion", None),
        ("Perirenal fat", None),
        ("kidney and tumor", None),
        ("left", None),
        ("", None),
    ],
)
def test_names_of_segments(text: str, label: int | None) -> None:
    assert class_of_segment_name(text, KIDNEY_TUMOR) == label


def test_the_map_decides_before_the_name() -> None:
    assert classes_of_segments({1: "kidney", 2: "cyst"}, "seg.dcm", KIDNEY_TUMOR, {1: 0, 2: 1}) == {1: 0, 2: 1}


def test_many_unknown_segments_are_counted() -> None:
    names = {number: f"organ {number}" for number in range(1, 9)}
    with pytest.raises(InputError, match=r"^seg\.dcm: .* segment 1 'organ 1', .*, 5 'organ 5' and 3 more; state"):
        classes_of_segments(names, "seg.dcm", KIDNEY_TUMOR, {})
