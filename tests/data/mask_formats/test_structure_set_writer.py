"""RT structure sets: read back from the file alone by independent fills, and the fields that readers need."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from skimage.draw import polygon2mask
from support.dicom_files import Writing, write_series

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.dicom.source_series import SourceSeries, read_source
from renalnet.data.images.grid import Grid
from renalnet.data.mask_formats.structure_set_writer import write_structure_set
from renalnet.errors import InputError
from renalnet.types import LabelArray

TURN = np.cos(0.3), np.sin(0.3)
GRIDS = {
    "wide": Grid((30, 20, 6), (0.6, 0.9, 2.5), (-30.0, 12.0, 100.0)),
    "high": Grid((18, 30, 6), (0.9, 0.6, 5.0), (-170.25, -160.5, -900.75)),
    "oblique": Grid(
        (22, 22, 6), (0.8, 0.8, 3.0), (4.0, 5.0, 6.0), (TURN[0], -TURN[1], 0, TURN[1], TURN[0], 0, 0, 0, 1)
    ),
}


def source_of(folder: Path, grid: Grid) -> SourceSeries:
    write_series(folder, np.zeros(grid.shape, np.int16), grid, Writing(), FrameOfReferenceUID="1.2.9")
    return read_source(folder)


def labelled(shape: tuple[int, ...]) -> LabelArray:
    """Return rings with a hole, an island in the hole, a tumor in the island, and an empty slice between others."""
    labels = np.zeros(shape, np.uint8)
    labels[1:, 1:-2, 2:-1] = 1
    labels[1:, 4:-4, 4:-4] = 0
    labels[2:, 6:-6, 6:-6] = 1
    labels[2:5, 7:-8, 8:-7] = 2
    labels[3] = 0
    labels[5, 0, 0] = 2
    return labels


def filled(structures: Dataset, source: SourceSeries) -> LabelArray:
    """Read the regions by the geometry of each contour's own slice, combining the contours by exclusive or."""
    labels = np.zeros(source.grid.shape, np.uint8)
    order = {str(header.SOPInstanceUID): z for z, header in enumerate(source.headers)}
    for region in structures.ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            z = order[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            header = source.headers[z]
            points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(header.ImagePositionPatient, float)
            assert contour.NumberOfContourPoints == len(points)
            row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            rows, columns = points @ column / header.PixelSpacing[0], points @ row / header.PixelSpacing[1]
            # In the plane of the slice, to the 5 decimals of the file.
            assert np.abs(points @ np.cross(row, column)).max() < 1e-4
            plane = labels[z]
            inside = polygon2mask(plane.shape, np.column_stack([rows, columns]))
            assert not np.isin(plane[inside], [0, region.ReferencedROINumber]).any() or plane[inside].max() == 0
            plane[inside] = np.where(plane[inside] == 0, region.ReferencedROINumber, 0)
    return labels


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_every_voxel_comes_back(grid: Grid, tmp_path: Path) -> None:
    source = source_of(tmp_path / "ct", grid)
    labels = labelled(grid.shape)
    write_structure_set(tmp_path / "a.dcm", labels, source, labels=KIDNEY_TUMOR, version="1")
    np.testing.assert_array_equal(filled(dcmread(tmp_path / "a.dcm"), source), labels)


def test_a_slice_that_is_missing_in_the_series_moves_no_contour(tmp_path: Path) -> None:
    """A contour lies in its own slice, whatever the distance to the others."""
    whole = source_of(tmp_path / "ct", GRIDS["wide"])
    kept = [0, 1, 2, 4, 5]
    grid = replace(whole.grid, size_xyz=(30, 20, 5))
    source = SourceSeries(whole.scan, [whole.headers[z] for z in kept], grid)
    labels = labelled(whole.grid.shape)
    write_structure_set(tmp_path / "a.dcm", labels[kept], source, labels=KIDNEY_TUMOR, version="1")
    structures = dcmread(tmp_path / "a.dcm")
    np.testing.assert_array_equal(filled(structures, source), labels[kept])
    heights = {
        float(contour.ContourData[2]) for region in structures.ROIContourSequence for contour in region.ContourSequence
    }
    assert heights == {102.5, 105.0, 110.0, 112.5}


def test_the_object_belongs_to_its_ct(tmp_path: Path) -> None:
    source = source_of(tmp_path / "ct", GRIDS["wide"])
    labels = labelled(source.grid.shape)
    write_structure_set(tmp_path / "a.dcm", labels, source, labels=KITS23, version="1.2.3")
    written = dcmread(tmp_path / "a.dcm")
    assert (written.Modality, written.PatientID, written.StudyInstanceUID) == ("RTSTRUCT", "secret-id", "1.2.3.4")
    assert written.SeriesInstanceUID != source.headers[0].SeriesInstanceUID and written.SoftwareVersions == "1.2.3"
    (frame,) = written.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert written.FrameOfReferenceUID == "1.2.9" and not written.PositionReferenceIndicator
    assert frame.FrameOfReferenceUID == "1.2.9" and study.ReferencedSOPInstanceUID == "1.2.3.4"
    assert series.SeriesInstanceUID == "1.2.3.4.1"
    named = [image.ReferencedSOPInstanceUID for image in series.ContourImageSequence]
    assert named == [header.SOPInstanceUID for header in source.headers]
    regions = [(region.ROINumber, region.ROIName) for region in written.StructureSetROISequence]
    assert regions == [(1, "kidney"), (2, "tumor"), (3, "cyst")]
    assert {region.ReferencedFrameOfReferenceUID for region in written.StructureSetROISequence} == {"1.2.9"}
    assert [list(region.ROIDisplayColor) for region in written.ROIContourSequence][:2] == [
        [46, 196, 166],
        [255, 77, 77],
    ]
    # No voxel is a cyst: the region is there, without contours.
    assert ["ContourSequence" in region for region in written.ROIContourSequence] == [True, True, False]
    codes = [one.RTROIIdentificationCodeSequence[0].CodeValue for one in written.RTROIObservationsSequence]
    assert codes == ["64033007", "126880001", "367643001"]


def test_a_contour_may_have_more_than_64_kib_of_coordinates(tmp_path: Path) -> None:
    grid = Grid((200, 40, 2), (0.7, 0.7, 1.0), (-170.25, -160.5, -900.75))
    source = source_of(tmp_path / "ct", grid)
    labels = np.zeros(grid.shape, np.uint8)
    # A comb whose teeth have teeth: four corners for every other column of every third row.
    labels[0, ::3] = 1
    labels[0, :, 0] = 1
    labels[0, 1::3, 1::2] = 1
    write_structure_set(tmp_path / "a.dcm", labels, source, labels=KIDNEY_TUMOR, version="1")
    written = dcmread(tmp_path / "a.dcm")
    (contour,) = written.ROIContourSequence[0].ContourSequence
    assert len("\\".join(map(str, contour.ContourData))) > 2**16
    np.testing.assert_array_equal(filled(written, source), labels)


def test_an_empty_mask_is_an_object_without_contours(tmp_path: Path) -> None:
    source = source_of(tmp_path / "ct", GRIDS["wide"])
    write_structure_set(
        tmp_path / "a.dcm", np.zeros(source.grid.shape, np.uint8), source, labels=KIDNEY_TUMOR, version="1"
    )
    written = dcmread(tmp_path / "a.dcm")
    assert [region.ROIName for region in written.StructureSetROISequence] == ["kidney", "tumor"]
    assert not any("ContourSequence" in region for region in written.ROIContourSequence)


def test_labels_of_another_shape_are_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path / "ct", GRIDS["wide"])
    with pytest.raises(InputError, match="must have the shape of its slices"):
        write_structure_set(
            tmp_path / "a.dcm", np.zeros((6, 30, 20), np.uint8), source, labels=KIDNEY_TUMOR, version="1"
        )
    assert not (tmp_path / "a.dcm").exists()
