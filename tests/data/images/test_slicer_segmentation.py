"""Segmentations of 3D Slicer: names in the header decide, layers overlap, and damaged files are refused."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.label_sets import CYST
from support.slicer_files import segment_pairs, write_seg_nrrd

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.images.mask_files import read_mask, read_source_mask
from renalnet.data.images.slicer_segmentation import has_segments, read_slicer_segmentation
from renalnet.data.images.volume import Grid, image_stem
from renalnet.errors import InputError

GRID = Grid((6, 5, 4), (0.7, 0.8, 2.5), (-31.5, 12.25, 100.0))


def values() -> NDArray[np.uint8]:
    array = np.zeros(GRID.shape, np.uint8)
    array[1:3, 1:4, 1:5] = 2
    array[2, 2, 2:4] = 1
    return array


def write(path: Path, *segments: tuple[str, int, int], layers: list[NDArray[np.uint8]] | None = None) -> Path:
    return write_seg_nrrd(path, layers or [values()], GRID, segment_pairs(*segments))


def test_the_names_of_segments_decide_and_not_their_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.seg.nrrd", ("Renal mass", 1, 0), ("left kidney", 2, 0))
    mask = read_slicer_segmentation(path, KIDNEY_TUMOR, {})
    np.testing.assert_array_equal(mask.array, np.array([0, 2, 1])[values()])
    assert mask.grid == GRID
    np.testing.assert_array_equal(read_source_mask(path, KIDNEY_TUMOR).array, mask.array)
    np.testing.assert_array_equal(read_mask(path, KIDNEY_TUMOR).array, mask.array)


def test_several_segments_of_one_class_become_one_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", ("right kidney", 1, 0), ("left kidney", 2, 0))
    np.testing.assert_array_equal(read_slicer_segmentation(path, KIDNEY_TUMOR, {}).array, values() > 0)


def test_segments_that_overlap_are_in_layers_and_the_tumor_is_kept(tmp_path: Path) -> None:
    kidney = (values() > 0).astype(np.uint8)
    tumor = (values() == 1) * np.uint8(1)
    cyst = np.zeros_like(kidney)
    cyst[2, 2, 3:] = 5
    layers = [tumor, kidney + 2 * (cyst > 0), cyst]
    segments = [("tumor", 1, 0), ("kidney", 1, 1), ("Kidney right", 3, 1), ("kidney", 2, 1), ("cyst", 5, 2)]
    path = write(tmp_path / "a.seg.nrrd", *segments, layers=layers)
    expected = np.where(layers[1] > 0, 1, 0)
    expected[cyst > 0] = CYST
    expected[tumor > 0] = 2
    np.testing.assert_array_equal(read_slicer_segmentation(path, KITS23, {}).array, expected)


def test_a_layer_for_each_segment_without_values_is_the_older_form(tmp_path: Path) -> None:
    pairs = {"Segment0_ID": "tumor", "Segment1_ID": "s", "Segment1_Name": "kidney"}
    masks = [(values() == 1).astype(np.uint8), (values() > 0).astype(np.uint8)]
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", masks, GRID, pairs)
    np.testing.assert_array_equal(read_slicer_segmentation(path, KIDNEY_TUMOR, {}).array, np.array([0, 2, 1])[values()])


def test_coded_terms_name_a_segment_that_has_only_a_number(tmp_path: Path) -> None:
    tag = "Segmentation.Status:inprogress|TerminologyEntry:list~SCT^49755003^Altered~SCT^4147007^Mass~^^~codes"
    pairs = segment_pairs(("Segment_1", 1, 0), ("kidney", 2, 0))
    pairs["Segment0_Tags"] = f"{tag}~SCT^64033007^Kidney~SCT^7771000^Left|"
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", [values()], GRID, pairs)
    np.testing.assert_array_equal(read_slicer_segmentation(path, KIDNEY_TUMOR, {}).array, np.array([0, 2, 1])[values()])
    pairs["Segment0_Tags"] = f"{tag}~SCT^10200004^Liver~^^|"
    write_seg_nrrd(path, [values()], GRID, pairs)
    with pytest.raises(InputError, match="segment 1 'Segment_1'; state the meaning"):
        read_slicer_segmentation(path, KIDNEY_TUMOR, {})


def test_an_unknown_name_is_refused_and_the_label_map_gives_it_a_meaning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.seg.nrrd", ("Läsion", 1, 0), ("kidney", 2, 0))
    with pytest.raises(InputError, match=r"segment 1 'Läsion'; state the meaning: --label-map 1=1 \(kidney\), 1=2"):
        read_slicer_segmentation(path, KIDNEY_TUMOR, {})
    mask = read_slicer_segmentation(path, KIDNEY_TUMOR, {1: 0})
    np.testing.assert_array_equal(mask.array, values() == 2)


def test_equal_values_in_two_layers_are_numbered_by_their_place(tmp_path: Path) -> None:
    layers = [(values() == 1).astype(np.uint8), (values() > 0).astype(np.uint8)]
    path = write(tmp_path / "a.seg.nrrd", ("one", 1, 0), ("other", 1, 1), layers=layers)
    mask = read_slicer_segmentation(path, KIDNEY_TUMOR, {1: 2, 2: 1})
    np.testing.assert_array_equal(mask.array, np.array([0, 2, 1])[values()])


def test_one_voxel_is_an_empty_segmentation(tmp_path: Path) -> None:
    grid = Grid((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    one = [np.ones(grid.shape, np.uint8)]
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", one, grid, segment_pairs(("kidney", 1, 0)))
    assert not read_slicer_segmentation(path, KIDNEY_TUMOR, {}).array.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Segment1_LabelValue": 3}, "value 2 of layer 0 belongs to no segment"),
        ({"Segment1_LabelValue": 1}, "values of its segments: 1 in layer 0, 1 in layer 0"),
        ({"Segment1_LabelValue": 0}, "values of its segments: 1 in layer 0, 0 in layer 0"),
        ({"Segment1_LabelValue": "two"}, "segment 'kidney': invalid literal"),
        ({"Segment2_ID": "s", "Segment2_Name": "kidney", "Segment2_Layer": 1}, "'kidney' is in layer 1, .* of 1"),
        ({"Segmentation_MasterRepresentation": "Fractional labelmap"}, "stores segments as 'Fractional labelmap'"),
        ({"Segmentation_Extent": "0 5 0 4 0 3"}, r"before 4\.11; open it and save it again"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, changes: dict[str, str | int], words: str
) -> None:
    pairs = {**segment_pairs(("tumor", 1, 0), ("kidney", 2, 0)), **changes}
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", [values()], GRID, pairs)
    with pytest.raises(InputError, match=words):
        read_slicer_segmentation(path, KIDNEY_TUMOR, {})


def test_a_damaged_key_changes_no_class_in_silence(tmp_path: Path) -> None:
    """The value of the kidney stands in the place of that of the tumor, and the key by which a segment is known."""
    path = write(tmp_path / "a.seg.nrrd", ("tumor", 1, 0), ("kidney", 2, 0))
    path.write_bytes(path.read_bytes().replace(b"Segment1_LabelValue", b"Segment0_LabelValue"))
    with pytest.raises(InputError, match="states 'Segment0_LabelValue' twice"):
        read_slicer_segmentation(path, KIDNEY_TUMOR, {})
    mask = [(values() == 1).astype(np.uint8)]
    path = write_seg_nrrd(tmp_path / "one.seg.nrrd", mask, GRID, segment_pairs(("tumor", 1, 0)))
    path.write_bytes(path.read_bytes().replace(b"Segment0_ID", b"Segment0_IE"))
    with pytest.raises(InputError, match="value 1 of layer 0 belongs to no segment"):
        read_source_mask(path, KIDNEY_TUMOR)


def test_truncated_layers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.seg.nrrd", ("tumor", 1, 0), ("kidney", 2, 1), layers=[values(), values()])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged gzip data"):
        read_slicer_segmentation(path, KIDNEY_TUMOR, {})


def test_only_a_header_that_names_segments_makes_a_segmentation(tmp_path: Path) -> None:
    assert has_segments(write(tmp_path / "a.nrrd", ("kidney", 1, 0)))
    assert not has_segments(write(tmp_path / "plain.seg.nrrd"))
    np.testing.assert_array_equal(read_source_mask(tmp_path / "plain.seg.nrrd", KIDNEY_TUMOR).array, values())
    (tmp_path / "broken.seg.nrrd").write_bytes(b"\x1f\x8b")
    assert not has_segments(tmp_path / "broken.seg.nrrd")
    assert not has_segments(tmp_path / "absent.seg.nrrd")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.seg.nrrd", "a"), ("kidney.1.SEG.NRRD", "kidney.1"), ("a.nrrd", "a"), ("seg.nrrd", "seg"), (".seg.nrrd", None)],
)
def test_the_ending_of_a_segmentation_is_no_part_of_its_name(name: str, stem: str | None) -> None:
    assert image_stem(name) == stem
