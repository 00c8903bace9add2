"""Label maps, label values and names of segments."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.label_sets import VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23, Label, LabelSet, label_set
from renalnet.data.images.label_values import class_of_segment_name, classes_of_segments, parse_label_map, to_classes
from renalnet.data.images.mask_files import read_mask
from renalnet.data.images.volume import Grid, Volume, write_volume
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


@pytest.mark.parametrize(
    ("text", "labels", "mapped"),
    [("4=3,5=0", KITS23, {4: 3, 5: 0}), ("9=5", VESSELS, {9: 5}), ("3=1", KITS23, {3: 1})],
)
def test_a_label_map_may_name_every_value_of_the_set(text: str, labels: LabelSet, mapped: dict[int, int]) -> None:
    assert parse_label_map(text, labels) == mapped


def test_a_value_outside_the_set_is_no_label() -> None:
    words = r"label map '4=4': '4=4' must read LABEL=0, LABEL=1, LABEL=2 or LABEL=3, such as 3=1"
    with pytest.raises(ConfigError, match=words):
        parse_label_map("4=4", KITS23)


def test_the_values_of_the_set_mean_themselves() -> None:
    assert to_classes(np.arange(4), "label.nii", KITS23, {}).tolist() == [0, 1, 2, 3]
    assert to_classes(np.arange(5), "label.nii", KITS23, {4: 3, 3: 1}).tolist() == [0, 1, 2, 1, 3]


CYST_REMEDIES = (
    "label.nii: label value 3 is none of 0 background, 1 kidney, 2 tumor (label 3 of KiTS21 and KiTS23 is a cyst); "
    "state its meaning: --label-map 3=1 (kidney), 3=2 (tumor) or 3=0, "
    "or choose the label set that has it: --set labels=kits23"
)


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        ([3], KIDNEY_TUMOR, CYST_REMEDIES),
        (
            [4],
            KITS23,
            "label.nii: label value 4 is none of 0 background, 1 kidney, 2 tumor, 3 cyst; "
            "state its meaning: --label-map 4=1 (kidney), 4=2 (tumor), 4=3 (cyst) or 4=0",
        ),
        (
            [3, 4],  # no built-in set has both
            KIDNEY_TUMOR,
            "label.nii: label value 3 is none of 0 background, 1 kidney, 2 tumor (nor are 1 other values) (label 3 of "
            "KiTS21 and KiTS23 is a cyst); state its meaning: --label-map 3=1 (kidney), 3=2 (tumor) or 3=0",
        ),
    ],
)
def test_unknown_values_have_the_remedies_of_the_set(values: list[int], labels: LabelSet, message: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(message)}$"):
        to_classes(np.array(values), "label.nii", labels, {})


RENAL_VESSELS = LabelSet(
    name="renal-vessels",
    labels=(*KITS23.labels, Label(name="renal_artery", value=4), Label(name="renal_vein", value=5)),
)
"""A set whose kidney has the word "renal", which is also in the names of other labels."""


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        ("Left kidney cyst", KITS23, 3),
        ("Renal cysts", KITS23, 3),
        ("cyst 1", KITS23, 3),
        ("Left kidney cyst", KIDNEY_TUMOR, None),
        ("Left kidney", KITS23, 1),
        ("kidney tumor", KITS23, 2),
        ("tumor and cyst", KITS23, None),
        ("cyst of tumor", KITS23, None),
        ("renal vein", RENAL_VESSELS, 5),
        ("Left Renal-Vein", RENAL_VESSELS, 5),
        ("renal_artery", RENAL_VESSELS, 4),
        ("renal", RENAL_VESSELS, 1),
        ("Renal mass", RENAL_VESSELS, 2),
        ("renal cyst", RENAL_VESSELS, 3),
        ("vein", RENAL_VESSELS, None),
        ("portal vein", RENAL_VESSELS, None),
        ("renal artery and vein", RENAL_VESSELS, None),
        ("renal artery, renal vein", RENAL_VESSELS, None),
        ("tumor in renal vein", RENAL_VESSELS, None),
        ("renal vein", KITS23, None),
    ],
)
def test_names_of_segments_in_other_sets(text: str, labels: LabelSet, label: int | None) -> None:
    assert class_of_segment_name(text, labels) == label


WORDY = label_set(
    {
        "name": "wordy",
        "labels": [
            {"name": "kidney", "value": 1},
            {"name": "tumor", "value": 2, "lesion_of": "kidney"},
            {"name": "tumor_thrombus", "value": 3, "words": ["thrombus", "thrombi"]},
            {"name": "left_ureter", "value": 4},
            {"name": "right_ureter", "value": 5},
            {"name": "phase2", "value": 6},
        ],
    }
)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("thrombi", 3),
        ("Tumor thrombus", 3),
        ("tumor", 2),
        ("Left ureter", 4),
        ("ureter (right)", 5),
        ("ureter", None),
        ("left kidney", 1),
        ("phase2", 6),
        ("phase 2", 6),
        ("phase", None),
        ("renal", 1),
    ],
)
def test_words_and_sides_in_the_names_of_a_users_labels(text: str, label: int | None) -> None:
    assert class_of_segment_name(text, WORDY) == label


@pytest.mark.parametrize(
    ("names", "end"),
    [
        ({3: "cyst"}, "3=0 (neither), or choose the label set that has it: --set labels=kits23"),
        ({3: "cyst", 4: "spleen"}, "3=0 (neither)"),
        ({3: "adrenal gland"}, "3=0 (neither)"),  # its number is that of the cyst, its name is not
    ],
)
def test_a_set_is_proposed_where_it_has_the_names_of_all_segments(names: dict[int, str], end: str) -> None:
    with pytest.raises(InputError, match=rf"{re.escape(end)}$"):
        classes_of_segments({1: "kidney", 2: "tumor", **names}, "seg.dcm", KIDNEY_TUMOR, {})


def test_unknown_segments_have_the_remedies_of_the_set() -> None:
    message = (
        "seg.dcm: not known to be kidney or tumor or cyst: segment 4 'spleen'; state the meaning: "
        "--label-map 4=1 (kidney), 4=2 (tumor), 4=3 (cyst) or 4=0 (none of them)"
    )
    with pytest.raises(InputError, match=rf"^{re.escape(message)}$"):
        classes_of_segments({4: "spleen"}, "seg.dcm", KITS23, {})


def test_masks_have_the_values_of_their_set(tmp_path: Path) -> None:
    grid = Grid.axis_aligned((1, 2, 2), (1.0, 1.0, 1.0))
    values = np.array([[[0, 1], [2, 3]]], np.uint8)
    write_volume(tmp_path / "mask.nii.gz", Volume(values, grid))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", KITS23).array, values)
    with pytest.raises(InputError, match=r"mask\.nii\.gz: label 3 must be 0 background, 1 kidney or 2 tumor; relabel"):
        read_mask(tmp_path / "mask.nii.gz", KIDNEY_TUMOR)
