"""Writing of DICOM segmentations: read back by highdicom and by this package, on the grid of the CT."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from support.dicom_files import Writing, write_series
from support.label_sets import CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.dicom.segmentation import read_segmentation
from renalnet.data.dicom.segmentation_writer import write_segmentation
from renalnet.data.dicom.series import read_series
from renalnet.data.dicom.source_series import read_source
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
    write_segmentation(tmp_path / "mask.dcm", labels, read_source(series), labels=KIDNEY_TUMOR, version="1.2.3")
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
    write_segmentation(tmp_path / "mask.dcm", labels, read_source(series), labels=KITS23, version="1")
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
    write_segmentation(tmp_path / "mask.dcm", labels, read_source(series), labels=KIDNEY_TUMOR, version="1")
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
    write_segmentation(tmp_path / "mask.dcm", labels, read_source(series), labels=VESSELS, version="1")
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
    write_segmentation(
        tmp_path / "mask.dcm", np.zeros(grid.shape, np.uint8), read_source(series), labels=KIDNEY_TUMOR, version="1"
    )
    assert not read_segmentation(tmp_path / "mask.dcm", grid, KIDNEY_TUMOR, {}).any()
    assert dcmread(tmp_path / "mask.dcm").NumberOfFrames == 2 * grid.shape[0]


def test_segments_have_the_colors_of_their_labels(series: Path, tmp_path: Path) -> None:
    """As CIELab, scaled to 16 bits; a reader turns them back to the RGB of the label set, up to rounding."""
    import highdicom

    labels = ellipsoids(read_series(series).grid.shape)
    write_segmentation(tmp_path / "mask.dcm", labels, read_source(series), labels=KITS23, version="1")
    stored = [one.RecommendedDisplayCIELabValue for one in dcmread(tmp_path / "mask.dcm").SegmentSequence]
    found = [highdicom.color.CIELabColor.from_dicom_value(list(value)).to_rgb() for value in stored]
    # 2EC4A6, FF4D4D and 4D8DFF.
    np.testing.assert_allclose(found, [(46, 196, 166), (255, 77, 77), (77, 141, 255)], atol=1)


def changed(series: Path, change: Callable[[Dataset, int], None]) -> None:
    """Apply a change to each slice of a series; the number is that of the slice in the order of the files."""
    for number, path in enumerate(sorted(series.iterdir())):
        dataset = dcmread(path)
        change(dataset, number)
        dataset.save_as(path)


def without_thickness(dataset: Dataset, number: int) -> None:
    del dataset.SliceThickness


def turned_by_rounding(dataset: Dataset, number: int) -> None:
    dataset.ImageOrientationPatient = [1, number * 1e-6, 0, -number * 1e-6, 1, 0]
    dataset.PixelSpacing = [0.7 + number * 1e-6, 0.8]


def with_own_study(dataset: Dataset, number: int) -> None:
    dataset.StudyInstanceUID = f"1.2.3.4.{max(number - 2, 0)}"


def with_own_frame(dataset: Dataset, number: int) -> None:
    dataset.FrameOfReferenceUID = f"1.2.9.{max(number - 2, 0)}"


def with_fields_that_break_rules(dataset: Dataset, number: int) -> None:
    dataset.PatientSex = "UNKNOWN"
    dataset.add_new("PatientBirthDate", "DA", "1950")
    dataset.add_new("StudyTime", "TM", "noon")


def without_patient_and_study(dataset: Dataset, number: int) -> None:
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber"):
        if name in dataset:
            delattr(dataset, name)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # the test itself writes values that break rules
@pytest.mark.parametrize(
    ("change", "remarks"),
    [
        (without_thickness, 0),
        (turned_by_rounding, 0),
        (with_own_study, 1),
        (with_own_frame, 1),
        (with_fields_that_break_rules, 0),
        (without_patient_and_study, 0),
    ],
)
def test_odd_headers_are_no_reason_to_write_nothing(
    series: Path, tmp_path: Path, change: Callable[[Dataset, int], None], remarks: int
) -> None:
    changed(series, change)
    source = read_source(series)
    labels = ellipsoids(source.grid.shape)
    write_segmentation(tmp_path / "mask.dcm", labels, source, labels=KIDNEY_TUMOR, version="1")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "mask.dcm", source.grid, KIDNEY_TUMOR, {}), labels)
    check_with_highdicom(tmp_path / "mask.dcm", labels, source.grid)
    written = dcmread(tmp_path / "mask.dcm")
    measures = written.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    # The fixture states 9 mm; where it states nothing, the slices' distance of 2.5 mm stands in.
    assert measures.SliceThickness == (2.5 if change is without_thickness else 9.0)
    assert len(source.remarks) == remarks
    if change is with_own_study:
        assert written.StudyInstanceUID == "1.2.3.4.0"  # that of three of the nine slices
    if change is with_own_frame:
        assert written.FrameOfReferenceUID == "1.2.9.0"


def test_what_highdicom_refuses_is_one_line_without_the_patient(series: Path, tmp_path: Path) -> None:
    source = read_source(series)
    for header in source.headers:
        header.PatientSex = "SOMEONE"
    with pytest.raises(InputError, match=r"no DICOM segmentation was written \(ValueError\); use the other") as told:
        write_segmentation(
            tmp_path / "mask.dcm", ellipsoids(source.grid.shape), source, labels=KIDNEY_TUMOR, version="1"
        )
    assert "SOMEONE" not in str(told.value)
    for header in source.headers:
        header.PatientSex = None
        header.SpecificCharacterSet = "NO SUCH SET"
    with pytest.raises(InputError, match=r"no DICOM segmentation was written \(\w+: ") as told:
        write_segmentation(
            tmp_path / "mask.dcm", ellipsoids(source.grid.shape), source, labels=KIDNEY_TUMOR, version="1"
        )
    assert "\n" not in str(told.value)
    assert not (tmp_path / "mask.dcm").exists()


@pytest.mark.parametrize(
    ("name", "charset"), [("EXAMPLENAME", None), ("Ex\u00e4mple^\u00dcnit", "ISO_IR 100"), ("\u4f8b^\u540d", "GB18030")]
)
def test_a_patients_name_is_written_and_not_shown(
    series: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, charset: str | None
) -> None:
    """highdicom warns of names of one word, and quotes them. A warning would also be an error here."""

    def named(dataset: Dataset, number: int) -> None:
        if charset:
            dataset.SpecificCharacterSet = charset
        dataset.PatientName = name

    changed(series, named)
    source = read_source(series)
    labels = ellipsoids(source.grid.shape)
    write_segmentation(tmp_path / "mask.dcm", labels, source, labels=KIDNEY_TUMOR, version="1")
    assert str(dcmread(tmp_path / "mask.dcm").PatientName) == name
    assert capfd.readouterr() == ("", "")


def test_labels_of_another_grid_are_refused(series: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must have the shape of its slices"):
        write_segmentation(
            tmp_path / "mask.dcm",
            np.zeros((8, 20, 24), np.uint8),
            read_source(series),
            labels=KIDNEY_TUMOR,
            version="1",
        )
    assert not (tmp_path / "mask.dcm").exists()


@pytest.mark.slow
def test_a_real_series_whose_identifiers_were_emptied(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ct" / "totalsegmentator" / "example_ct_dicom"
    grid = read_series(folder).grid
    labels = ellipsoids(grid.shape)
    write_segmentation(tmp_path / "mask.dcm", labels, read_source(folder), labels=KIDNEY_TUMOR, version="1")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "mask.dcm", grid, KIDNEY_TUMOR, {}), labels)
    check_with_highdicom(tmp_path / "mask.dcm", labels, grid)
