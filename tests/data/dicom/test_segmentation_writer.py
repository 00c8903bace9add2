"""Writing of DICOM segmentations: read back by highdicom and by this package, on the grid of the CT."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from support.dicom_files import Writing, write_series
from support.label_sets import CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.dicom.segmentation import read_segmentation
from renalnet.data.dicom.segmentation_writer import write_segmentation
from renalnet.data.dicom.series import read_series
from renalnet.data.images.grid import Grid
from renalnet.errors import InputError
from renalnet.types import LabelArray


def ellipsoids(shape: tuple[int, ...]) -> LabelArray:
    """Return a kidney with a tumor, off centre, so that a flip of any axis changes the labels."""
    z, y, x = (np.arange(length) / length for length in shape)
    labels = np.zeros(shape, np.uint8)
    for value, (middle, radius) in {1: ((0.4, 0.6, 0.3), 0.3), 2: ((0.5, 0.55, 0.25), 0.12)}.items():
        away = ((z - middle[0])[:, None, None] ** 2 + (y - middle[1])[:, None] ** 2 + (x - middle[2]) ** 2) ** 0.5
        labels[away < radius] = value
    return labels


def check_with_highdicom(
    path: Path, labels: LabelArray, grid: Grid, names: tuple[str, ...] = ("kidney", "tumor")
) -> None:
    """Check that highdicom reads the same labels, with frames assigned to slices only by their positions."""
    import highdicom

    found = highdicom.seg.segread(path)
    assert [found.get_segment_description(number).segment_label for number in found.segment_numbers] == list(names)
    seen = np.zeros_like(labels)
    for index, frame in enumerate(found.PerFrameFunctionalGroupsSequence):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        normal = np.array(grid.direction).reshape(3, 3)[:, 2]
        z = round(float((position - grid.origin_xyz_mm) @ normal) / grid.spacing_xyz_mm[2])
        pixels = found.pixel_array[index] if found.NumberOfFrames > 1 else found.pixel_array
        segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        seen[z][pixels > 0] = segment
    np.testing.assert_array_equal(seen, labels)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    grid = Grid((24, 20, 9), (0.8, 0.7, 2.5), (-30.0, 12.0, 100.0))
    hounsfield = np.random.default_rng(0).integers(-200, 300, grid.shape).astype(np.int16)
    write_series(tmp_path / "ct", hounsfield, grid, Writing(), PatientID="someone", FrameOfReferenceUID="1.2.9")
    return tmp_path / "ct"


def test_written_labels_are_read_back(series: Path, tmp_path: Path) -> None:
    grid = read_series(series).grid
    labels = ellipsoids(grid.shape)
    write_segmentation(tmp_path / "mask.dcm", labels, series, labels=KIDNEY_TUMOR, version="1.2.3")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "mask.dcm", grid, KIDNEY_TUMOR, {}), labels)
    check_with_highdicom(tmp_path / "mask.dcm", labels, grid)
    written, source = dcmread(tmp_path / "mask.dcm"), dcmread(next(series.iterdir()))
    assert (written.PatientID, written.StudyInstanceUID) == ("someone", source.StudyInstanceUID)
    assert written.SeriesInstanceUID != source.SeriesInstanceUID and written.SoftwareVersions == "1.2.3"
    assert written.FrameOfReferenceUID == source.FrameOfReferenceUID
    referenced = {
        one.ReferencedSOPInstanceUID for one in written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced <= {dcmread(path).SOPInstanceUID for path in series.iterdir()}


def with_cyst(labels: LabelArray) -> LabelArray:
    """Return the labels with a cyst on the far side of the tumor, in the kidney and beside it."""
    changed = labels.copy()
    changed[1:4, -8:-4, 9:12] = CYST
    return changed


def test_a_cyst_is_a_third_segment_with_its_code(series: Path, tmp_path: Path) -> None:
    import highdicom
    from pydicom.sr.codedict import codes

    grid = read_series(series).grid
    labels = with_cyst(ellipsoids(grid.shape))
    write_segmentation(tmp_path / "mask.dcm", labels, series, labels=KITS23, version="1")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "mask.dcm", grid, KITS23, {}), labels)
    check_with_highdicom(tmp_path / "mask.dcm", labels, grid, ("kidney", "tumor", "cyst"))
    found = highdicom.seg.segread(tmp_path / "mask.dcm")
    described = [found.get_segment_description(number) for number in (1, 2, 3)]
    types = [one.segmented_property_type for one in described]
    assert (types[0], types[2]) == (codes.SCT.Kidney, codes.SCT.Cyst)
    assert (types[1].value, types[1].scheme_designator) == ("126880001", "SCT")
    categories = [one.segmented_property_category for one in described]
    assert categories[1] == categories[2] == codes.SCT.MorphologicallyAbnormalStructure
    assert categories[0].value == "123037004"
    written = dcmread(tmp_path / "mask.dcm")
    assert written.SeriesDescription == "kidney, renal tumor and renal cyst, research software"


def test_the_default_object_has_the_words_of_the_versions_before(series: Path, tmp_path: Path) -> None:
    labels = ellipsoids(read_series(series).grid.shape)
    write_segmentation(tmp_path / "mask.dcm", labels, series, labels=KIDNEY_TUMOR, version="1")
    written = dcmread(tmp_path / "mask.dcm")
    assert written.SeriesDescription == "kidney and renal tumor, research software"
    concepts = [
        (one.SegmentedPropertyCategoryCodeSequence[0], one.SegmentedPropertyTypeCodeSequence[0])
        for one in written.SegmentSequence
    ]
    assert [(category.CodeMeaning, kind.CodeMeaning) for category, kind in concepts] == [
        ("Anatomical Structure", "Kidney"),
        ("Morphologically Abnormal Structure", "Neoplasm of kidney"),
    ]


def test_labels_of_unknown_names_are_structures_or_lesions(series: Path, tmp_path: Path) -> None:
    labels = np.zeros(read_series(series).grid.shape, np.uint8)
    labels[4, 3, 2] = VEIN
    write_segmentation(tmp_path / "mask.dcm", labels, series, labels=VESSELS, version="1")
    written = dcmread(tmp_path / "mask.dcm")
    names = [one.SegmentLabel for one in written.SegmentSequence]
    assert names == ["kidney", "tumor", "cyst", "renal artery", "renal vein"]
    types = [one.SegmentedPropertyTypeCodeSequence[0].CodeValue for one in written.SegmentSequence]
    assert types == ["64033007", "126880001", "367643001", "123037004", "123037004"]
    # All the names together exceed the 64 characters of a description.
    assert written.SeriesDescription == "vessels, research software"
    assert written.NumberOfFrames == 1


def test_an_empty_mask_is_a_valid_object(series: Path, tmp_path: Path) -> None:
    grid = read_series(series).grid
    write_segmentation(tmp_path / "mask.dcm", np.zeros(grid.shape, np.uint8), series, labels=KIDNEY_TUMOR, version="1")
    assert not read_segmentation(tmp_path / "mask.dcm", grid, KIDNEY_TUMOR, {}).any()
    assert dcmread(tmp_path / "mask.dcm").NumberOfFrames == 2 * grid.shape[0]


def test_labels_of_another_grid_are_refused(series: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must have the shape of its slices"):
        write_segmentation(
            tmp_path / "mask.dcm", np.zeros((8, 20, 24), np.uint8), series, labels=KIDNEY_TUMOR, version="1"
        )
    assert not (tmp_path / "mask.dcm").exists()


def test_a_real_series_whose_identifiers_were_emptied(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ct" / "totalsegmentator" / "example_ct_dicom"
    grid = read_series(folder).grid
    labels = ellipsoids(grid.shape)
    write_segmentation(tmp_path / "mask.dcm", labels, folder, labels=KIDNEY_TUMOR, version="1")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "mask.dcm", grid, KIDNEY_TUMOR, {}), labels)
    check_with_highdicom(tmp_path / "mask.dcm", labels, grid)
