"""Folder layouts: each is detected and read exactly; anything else is refused with a one-line error."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from found_cases import sound_cases
from support.dicom_files import Writing, write_segmentation, write_series

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.cases.loading import ScanCase, find_cases, load_case
from renalnet.data.images.volume import Grid, Volume, grid_difference, image_stem, to_itk, to_source
from renalnet.errors import ConfigError, InputError

GRID = Grid((36, 40, 5), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
TURNED = replace(GRID, direction=(0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
"""Sagittal slices from right to left, with rows towards the feet."""
IMAGE = np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.int16)
LABEL = np.random.default_rng(1).integers(0, 3, GRID.shape).astype(np.uint8)


def write_file(path: Path, array: np.ndarray, grid: Grid = GRID) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(to_itk(Volume(array, grid)), str(path))


def write_seg(path: Path, grid: Grid) -> None:
    write_segmentation(path, {"kidney": LABEL == 1, "tumor": LABEL == 2}, grid)


def kits19(src: Path, grid: Grid = GRID) -> None:
    write_file(src / "a" / "imaging.nii.gz", IMAGE, grid)
    write_file(src / "a" / "segmentation.nii.gz", LABEL, grid)


def kits21(src: Path, grid: Grid = GRID) -> None:
    write_file(src / "a" / "imaging.nii.gz", IMAGE, grid)
    write_file(src / "a" / "aggregated_MAJ_seg.nii.gz", LABEL, grid)
    write_file(src / "a" / "aggregated_AND_seg.nii.gz", np.zeros_like(LABEL), grid)
    write_file(src / "a" / "raw" / "tumor_instance-1.nii.gz", LABEL, grid)


def decathlon(src: Path, grid: Grid = GRID) -> None:
    write_file(src / "imagesTr" / "a.nii.gz", IMAGE, grid)
    write_file(src / "labelsTr" / "a.nii.gz", LABEL, grid)
    write_file(src / "imagesTs" / "b.nii.gz", IMAGE, grid)
    (src / "dataset.json").write_text('{"labels": {"0": "background", "1": "Kidney", "2": "Tumor"}}')


def nnunet(src: Path, grid: Grid = GRID) -> None:
    write_file(src / "imagesTr" / "a_0000.nrrd", IMAGE, grid)
    write_file(src / "labelsTr" / "a.nrrd", LABEL, grid)
    (src / "dataset.json").write_text('{"labels": {"background": 0, "whole": [1, 2], "kidney": 1, "tumor": 2}}')


def nnunet_of_dicom(src: Path, grid: Grid = GRID) -> None:
    write_series(src / "imagesTr" / "a", IMAGE, grid)
    write_file(src / "labelsTr" / "a.mha", LABEL, grid)


def dicom_with_file(src: Path, grid: Grid = GRID) -> None:
    write_series(src / "a" / "dicom", IMAGE, grid, Writing(suffix=""))
    write_file(src / "a" / "label.nii.gz", LABEL, grid)


def loose_dicom_with_file(src: Path, grid: Grid = GRID) -> None:
    write_series(src / "a", IMAGE, grid)
    write_file(src / "a" / "anything.nrrd", LABEL, grid)


def dicom_with_segmentation(src: Path, grid: Grid = GRID) -> None:
    write_series(src / "a" / "study" / "series", IMAGE, grid)
    write_seg(src / "a" / "study" / "seg.dcm", grid)


def mixed_kits(src: Path, grid: Grid = GRID) -> None:
    write_series(src / "a" / "imaging", IMAGE, grid)
    write_seg(src / "a" / "segmentation.dcm", grid)


LAYOUTS = [
    kits19,
    kits21,
    decathlon,
    nnunet,
    nnunet_of_dicom,
    dicom_with_file,
    loose_dicom_with_file,
    dicom_with_segmentation,
    mixed_kits,
]


@pytest.mark.parametrize("grid", [GRID, TURNED], ids=["upright", "turned"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_is_read_and_written_back(
    tmp_path: Path, layout: Callable[[Path, Grid], None], grid: Grid
) -> None:
    layout(tmp_path, grid)
    (scan,) = sound_cases(tmp_path)
    assert scan.case == "a"
    loaded = load_case(scan)
    assert grid_difference(loaded.source, grid) is None
    np.testing.assert_array_equal(to_source(loaded.image, loaded.source).array, IMAGE)
    np.testing.assert_array_equal(to_source(loaded.label, loaded.source).array, LABEL)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("layout", ["kits", "decathlon"])
def test_a_layout_may_contain_any_format(tmp_path: Path, layout: str, ending: str) -> None:
    image, label = {
        "kits": ("a/imaging", "a/segmentation"),
        "decathlon": ("imagesTr/a", "labelsTr/a"),
    }[layout]
    write_file(tmp_path / (image + ending), IMAGE)
    write_file(tmp_path / (label + ending), LABEL)
    (scan,) = sound_cases(tmp_path)
    np.testing.assert_array_equal(load_case(scan).label.array, LABEL)


def test_cysts_of_kits21_need_a_map(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "imaging.nii.gz", IMAGE)
    write_file(tmp_path / "a" / "segmentation.nii.gz", np.where(LABEL == 2, 3, LABEL).astype(np.uint8))
    with pytest.raises(
        InputError, match=r"segmentation\.nii\.gz: label value 3 is none of .* --label-map 3=1 \(kidney\)"
    ):
        load_case(sound_cases(tmp_path)[0])
    (scan,) = sound_cases(tmp_path, label_map={3: 2})
    np.testing.assert_array_equal(load_case(scan).label.array, LABEL)


def test_cysts_of_kits21_are_labels_of_their_set(tmp_path: Path) -> None:
    with_cysts = np.where(IMAGE > 1500, 3, LABEL).astype(np.uint8)
    write_file(tmp_path / "a" / "imaging.nii.gz", IMAGE)
    write_file(tmp_path / "a" / "segmentation.nii.gz", with_cysts)
    (scan,) = find_cases(tmp_path, KITS23).cases
    loaded = load_case(scan)
    assert loaded.labels == KITS23
    np.testing.assert_array_equal(loaded.label.array, with_cysts)
    with pytest.raises(InputError, match=r"--label-map 3=1 \(kidney\), .* --set labels=kits23"):
        load_case(sound_cases(tmp_path)[0])


def test_cysts_of_dataset_json_need_a_set_that_has_them(tmp_path: Path) -> None:
    nnunet(tmp_path)
    names = {"background": 0, "cyst": 1, "kidney": 2, "tumor": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": names}))
    (scan,) = find_cases(tmp_path, KITS23).cases
    assert scan.label_map == ((1, 3), (2, 1), (3, 2))
    np.testing.assert_array_equal(load_case(scan).label.array, np.array([0, 3, 1])[LABEL])
    with pytest.raises(InputError, match=r"dataset\.json: .* segment 1 'cyst'; .* --set labels=kits23$"):
        sound_cases(tmp_path)


def test_series_is_passed_to_the_cases_of_dicom_only(tmp_path: Path) -> None:
    dicom_with_file(tmp_path)
    write_series(tmp_path / "a" / "late", IMAGE[:3], GRID, Writing(number=7, uid="1.2.3.7"))
    with pytest.raises(InputError, match="2 CT series"):
        load_case(sound_cases(tmp_path)[0])
    (scan,) = sound_cases(tmp_path, series="1")
    np.testing.assert_array_equal(load_case(scan).label.array, LABEL)


def test_series_without_dicom_is_refused(tmp_path: Path) -> None:
    kits19(tmp_path)
    with pytest.raises(ConfigError, match=r"series '1': .* holds no DICOM series"):
        sound_cases(tmp_path, series="1")


def test_two_layouts_in_one_folder_are_refused(tmp_path: Path) -> None:
    kits19(tmp_path)
    decathlon(tmp_path)
    with pytest.raises(InputError, match=r"several layouts \(KiTS, Decathlon\); expected one of"):
        sound_cases(tmp_path)


def test_labels_that_are_missing_or_doubtful_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "a", IMAGE, GRID)
    with pytest.raises(InputError, match=r"a: .*a: has no label; add it"):
        sound_cases(tmp_path)
    write_file(tmp_path / "a" / "one.nii.gz", LABEL)
    write_file(tmp_path / "a" / "two.nii.gz", LABEL)
    with pytest.raises(InputError, match=r"2 labels \(one\.nii\.gz, two\.nii\.gz\); keep the one to use"):
        sound_cases(tmp_path)


def test_an_image_in_two_formats_is_refused(tmp_path: Path) -> None:
    kits19(tmp_path)
    write_file(tmp_path / "a" / "imaging.nrrd", IMAGE)
    with pytest.raises(InputError, match=r"a: 2 images \(imaging\.nii\.gz, imaging\.nrrd\); keep"):
        sound_cases(tmp_path)


def test_a_case_without_its_partner_leaves_the_others(tmp_path: Path) -> None:
    kits19(tmp_path)
    write_file(tmp_path / "case_00210" / "imaging.nii.gz", IMAGE)
    write_file(tmp_path / "case_00211" / "segmentation.nii.gz", LABEL)
    found = find_cases(tmp_path, KIDNEY_TUMOR)
    assert [scan.case for scan in found.cases] == ["a"]
    assert [(problem.case, problem.level, problem.code) for problem in found.problems] == [
        ("case_00210", "error", "no-label"),
        ("case_00211", "error", "layout"),
    ]
    with pytest.raises(InputError, match=r"^case_00210: .*case_00210/imaging\.nii\.gz: has no label"):
        sound_cases(tmp_path)


def test_a_damaged_dicom_case_leaves_the_others(tmp_path: Path) -> None:
    dicom_with_file(tmp_path)
    write_series(tmp_path / "junk", IMAGE, GRID)
    (tmp_path / "junk" / "zz.dcm").write_bytes(b"no DICOM")
    write_series(tmp_path / "lost", IMAGE, GRID)
    (tmp_path / "lost" / "zz.dcm").symlink_to("/proc/self/mem")  # reading its first bytes always fails
    found = find_cases(tmp_path, KIDNEY_TUMOR, series="1")
    assert [(scan.case, scan.series) for scan in found.cases] == [("a", "1")]
    assert [(problem.case, problem.code) for problem in found.problems] == [("junk", "layout"), ("lost", "layout")]
    assert "zz.dcm: has the ending of DICOM but not its content" in found.problems[0].message
    assert "zz.dcm: not readable (Input/output error)" in found.problems[1].message


def test_a_case_that_cannot_be_listed_leaves_the_others(tmp_path: Path) -> None:
    kits19(tmp_path)
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "imaging.dcm").symlink_to("/proc/self/mem")
    found = find_cases(tmp_path, KIDNEY_TUMOR)
    assert [scan.case for scan in found.cases] == ["a"]
    assert [problem.case for problem in found.problems] == ["lost"]


def test_a_slice_that_cannot_be_read_is_an_error_of_its_case(tmp_path: Path) -> None:
    dicom_with_file(tmp_path)
    (scan,) = sound_cases(tmp_path)
    (tmp_path / "a" / "dicom" / "zz").symlink_to("/proc/self/mem")
    with pytest.raises(InputError, match=r"a/dicom/zz: not readable \(Input/output error\); replace or remove it"):
        load_case(scan)


def test_entries_that_belong_to_no_case_are_listed(tmp_path: Path) -> None:
    kits19(tmp_path)
    write_file(tmp_path / "notes" / "image.nii.gz", IMAGE)
    write_file(tmp_path / "loose.nii.gz", IMAGE)
    (tmp_path / ".git").mkdir()
    (tmp_path / "kits.json").touch()
    assert find_cases(tmp_path, KIDNEY_TUMOR).passed_over == ("loose.nii.gz", "notes")


def test_entries_that_belong_to_no_case_of_a_decathlon_set_are_listed(tmp_path: Path) -> None:
    decathlon(tmp_path)
    (tmp_path / "imagesTr" / "a.json").touch()
    (tmp_path / "labelsTr" / "old").mkdir()
    write_file(tmp_path / "more" / "b.nii.gz", IMAGE)
    assert find_cases(tmp_path, KIDNEY_TUMOR).passed_over == ("imagesTr/a.json", "labelsTr/old", "more")


def touch_set(src: Path, images: str, labels: str) -> None:
    for folder, names in (("imagesTr", images), ("labelsTr", labels)):
        (src / folder).mkdir()
        for name in names.split():
            (src / folder / f"{name}.nii.gz").touch()


@pytest.mark.parametrize(
    ("images", "labels", "cases", "problems"),
    [
        ("k_0000 k_0001 k_0002", "k_0000 k_0001 k_0002", "k_0000 k_0001 k_0002", ""),  # the digits number cases
        ("k_0000_0000 k_0001_0000", "k_0000 k_0001", "k_0000 k_0001", ""),  # cases and channels
        ("a a_0000", "a", "", "a"),
        ("a a_0000", "a a_0000", "a a_0000", ""),
        ("k_0000 k_0001 k_0002", "k_0000 k_0002", "k_0000 k_0002", "k_0001"),
        ("a_0000 a_0002 b_0000", "a b", "b", "a"),
        ("a_0001", "a", "", "a a_0001"),
    ],
)
def test_four_digits_number_cases_or_channels(
    tmp_path: Path, images: str, labels: str, cases: str, problems: str
) -> None:
    touch_set(tmp_path, images, labels)
    found = find_cases(tmp_path, KIDNEY_TUMOR)
    assert [scan.case for scan in found.cases] == cases.split()
    assert [problem.case for problem in found.problems] == problems.split()
    assert all(image_stem(scan.label.name) == scan.case for scan in found.cases)


def test_a_second_channel_is_refused(tmp_path: Path) -> None:
    nnunet(tmp_path)
    write_file(tmp_path / "imagesTr" / "a_0001.nrrd", IMAGE)
    with pytest.raises(InputError, match=r"a: .*2 images \(a_0000\.nrrd, a_0001\.nrrd\); keep the one"):
        sound_cases(tmp_path)


def test_names_in_dataset_json_give_the_labels_their_meaning(tmp_path: Path) -> None:
    nnunet(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "tumor": 1, "kidney": 2}}))
    (scan,) = sound_cases(tmp_path)
    np.testing.assert_array_equal(load_case(scan).label.array, (3 - LABEL) % 3)
    path.write_text(json.dumps({"labels": {"0": "background", "1": "liver", "2": "tumor"}}))
    with pytest.raises(InputError, match=r"dataset\.json: .* segment 1 'liver'; state the meaning: --label-map 1=1"):
        sound_cases(tmp_path)
    assert sound_cases(tmp_path, label_map={1: 0})[0].label_map == ((1, 0), (2, 2))


@pytest.mark.parametrize("text", ["{", "[]", '{"labels": 3}', '{"labels": {"x": "y"}}', '{"labels": {"x": null}}'])
def test_a_damaged_dataset_json_is_refused(tmp_path: Path, text: str) -> None:
    nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json: not the description of a data set"):
        sound_cases(tmp_path)


def test_a_case_is_small_and_can_be_pickled(tmp_path: Path) -> None:
    import pickle

    scan = ScanCase("a", tmp_path / "image.nii", tmp_path / "label.nii", "3", ((3, 1),))
    assert len(pickle.dumps(scan)) < 1500
    assert pickle.loads(pickle.dumps(scan)) == scan
