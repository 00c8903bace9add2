"""Reading of DICOM segmentations on the grid of their CT."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from scipy import ndimage
from support.dicom_files import write_segmentation, write_series
from support.label_sets import CYST, VEIN, VESSELS

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.cases.loading import ScanCase, load_case
from renalnet.data.dicom.segmentation import read_segmentation
from renalnet.data.images.volume import Grid, grid_difference, resample, to_source
from renalnet.errors import InputError

GRID = Grid((36, 40, 5), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
TILTED = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6, 0.0, 0.6, 0.8)


def masks() -> dict[str, NDArray[np.bool_]]:
    """Return a kidney in all slices but the first, and a tumor in two slices that overlaps it."""
    kidney, tumor = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    kidney[1:, 5:20, 5:20] = True
    tumor[2:4, 15:25, 10:15] = True
    return {"Left Kidney": kidney, "Renal mass": tumor}


def expected() -> NDArray[np.uint8]:
    kidney, tumor = masks().values()
    return np.where(tumor, 2, kidney).astype(np.uint8)


@pytest.mark.slow
def test_image_and_label_come_back_in_all_orientations_that_dicom_has(tmp_path: Path) -> None:
    """A series has only the 24 right-handed orientations, because positions alone order its slices."""
    image, label = np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.int16), expected()
    num_read = 0
    for axes, flips in itertools.product(itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3)):
        direction = np.zeros((3, 3))
        direction[list(axes), range(3)] = flips
        if np.linalg.det(direction) < 0:
            continue
        grid, folder = replace(GRID, direction=tuple(direction.ravel().tolist())), tmp_path / str(num_read)
        write_series(folder / "ct", image, grid)
        write_segmentation(folder / "seg.dcm", masks(), grid)
        loaded = load_case(ScanCase("a", folder / "ct", folder / "seg.dcm"))
        assert grid_difference(loaded.source, grid) is None
        np.testing.assert_array_equal(to_source(loaded.label, loaded.source).array, label)
        np.testing.assert_array_equal(resample(loaded.image, loaded.source, is_label=True).array, image)
        num_read += 1
    assert num_read == 24


@pytest.mark.parametrize("order", [None, [5, 0, 3, 2, 4, 1]])
@pytest.mark.parametrize("direction", [GRID.direction, TILTED])
def test_segments_land_on_their_slices_in_any_order(
    tmp_path: Path, direction: tuple[float, ...], order: list[int] | None
) -> None:
    grid = replace(GRID, direction=direction)
    write_segmentation(tmp_path / "seg.dcm", masks(), grid, order)
    np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm", grid, KIDNEY_TUMOR, {}), expected())


def test_a_series_with_its_segmentation_goes_there_and_back(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.int16)
    write_series(tmp_path / "ct", image, GRID)
    write_segmentation(tmp_path / "seg.dcm", masks(), GRID)
    loaded = load_case(ScanCase("a", tmp_path / "ct", tmp_path / "seg.dcm"))
    np.testing.assert_array_equal(loaded.image.array, image)
    np.testing.assert_array_equal(to_source(loaded.label, loaded.source).array, expected())


def test_an_oblique_series_with_its_segmentation_goes_there_and_back_within_a_voxel(tmp_path: Path) -> None:
    grid = Grid((40, 36, 20), (0.8, 0.9, 2.0), (-31.5, 12.25, 100.0), TILTED)
    apart_mm = (np.indices(grid.shape).T - (9.5, 17.5, 19.5)) * (2.0, 0.9, 0.8)
    ball = np.linalg.norm(apart_mm, axis=-1).T < 12
    write_series(tmp_path / "ct", np.where(ball, 150, -100).astype(np.int16), grid)
    write_segmentation(tmp_path / "seg.dcm", {"kidney": ball}, grid)
    loaded = load_case(ScanCase("a", tmp_path / "ct", tmp_path / "seg.dcm"))
    assert grid_difference(loaded.source, grid) is None
    assert loaded.image.grid == loaded.label.grid
    assert loaded.label.grid.is_axis_aligned
    back = to_source(loaded.label, loaded.source).array > 0
    cube = np.ones((3, 3, 3))
    assert back[ndimage.binary_erosion(ball, cube)].all()
    assert not back[~ndimage.binary_dilation(ball, cube)].any()


def test_segments_of_other_names_are_listed_and_can_be_mapped(tmp_path: Path) -> None:
    kidney, tumor = masks().values()
    named = {"Kidney": kidney, "Renal cyst": tumor, "Renal vein": np.flip(tumor, axis=2)}
    write_segmentation(tmp_path / "seg.dcm", named, GRID)
    with pytest.raises(InputError, match=r"segment 2 'Renal cyst', 3 'Renal vein'; .* --label-map 2=1 \(kidney\)"):
        read_segmentation(tmp_path / "seg.dcm", GRID, KIDNEY_TUMOR, {})
    np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm", GRID, KIDNEY_TUMOR, {2: 2, 3: 0}), expected())


@pytest.mark.parametrize("names", list(itertools.permutations(["cyst", "renal vein", "tumor", "kidney"])))
def test_the_most_important_of_overlapping_segments_is_kept(tmp_path: Path, names: tuple[str, ...]) -> None:
    """The segments overlap in pairs along a row: vein, vein and kidney, kidney, kidney and cyst, and so on."""
    reach = {"renal vein": (0, 10), "kidney": (5, 20), "cyst": (15, 30), "tumor": (25, 35)}
    segments = {}
    for name in names:
        segments[name] = np.zeros(GRID.shape, bool)
        segments[name][2, 10, slice(*reach[name])] = True
    write_segmentation(tmp_path / "seg.dcm", segments, GRID)
    label = read_segmentation(tmp_path / "seg.dcm", GRID, VESSELS, {})
    assert label[2, 10].tolist() == [VEIN] * 5 + [1] * 10 + [CYST] * 10 + [2] * 10 + [0]
    assert np.count_nonzero(label) == 35


def test_a_cyst_is_a_segment_of_its_own_in_a_set_that_has_it(tmp_path: Path) -> None:
    kidney, tumor = masks().values()
    write_segmentation(tmp_path / "seg.dcm", {"Kidney": kidney, "Left renal cyst": tumor}, GRID)
    in_cyst = np.where(tumor, CYST, kidney)
    np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm", GRID, KITS23, {}), in_cyst)
    with pytest.raises(InputError, match=r"segment 2 'Left renal cyst'; .* --set labels=kits23$"):
        read_segmentation(tmp_path / "seg.dcm", GRID, KIDNEY_TUMOR, {})


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (
            replace(GRID, size_xyz=(36, 41, 5)),
            r"frames of 40×36 pixels are on another grid than .* slices of 41×36",
        ),
        (replace(GRID, spacing_xyz_mm=(0.71, 0.8, 2.0)), "another grid"),
        (replace(GRID, direction=TILTED), "another grid"),
        (
            replace(GRID, spacing_xyz_mm=(0.7, 0.8, 2.5)),
            r"the frame at -31\.5, 12\.25, 102 mm matches no slice .*0\.5 mm",
        ),
        (replace(GRID, origin_xyz_mm=(-31.0, 12.25, 100.0)), r"off by 0\.5 mm"),
        (replace(GRID, size_xyz=(36, 40, 4)), r"the frame at -31\.5, 12\.25, 108 mm matches no slice"),
    ],
)
def test_frames_that_do_not_coincide_with_the_ct_are_refused(tmp_path: Path, grid: Grid, words: str) -> None:
    write_segmentation(tmp_path / "seg.dcm", masks(), GRID)
    with pytest.raises(InputError, match=words):
        read_segmentation(tmp_path / "seg.dcm", grid, KIDNEY_TUMOR, {})


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("NumberOfFrames", 0, "damaged segmentation"),
        ("SegmentationType", "OTHER", "damaged segmentation"),
        ("PerFrameFunctionalGroupsSequence", [], "6 frames, but positions of 0"),
    ],
)
def test_damaged_segmentations_are_refused(tmp_path: Path, field: str, value: Any, words: str) -> None:
    write_segmentation(tmp_path / "seg.dcm", masks(), GRID)
    dataset = dcmread(tmp_path / "seg.dcm")
    setattr(dataset, field, value)
    dataset.save_as(tmp_path / "seg.dcm")
    with pytest.raises(InputError, match=words):
        read_segmentation(tmp_path / "seg.dcm", GRID, KIDNEY_TUMOR, {})


@pytest.mark.parametrize(("largest", "is_label"), [(255, True), (128, False)])
def test_fractions_are_labels_only_where_they_are_whole(tmp_path: Path, largest: int, is_label: bool) -> None:
    write_segmentation(tmp_path / "seg.dcm", masks(), GRID)
    dataset = dcmread(tmp_path / "seg.dcm")
    dataset.PixelData = (dataset.pixel_array * np.uint8(largest)).tobytes()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 255
    dataset.save_as(tmp_path / "seg.dcm")
    if is_label:
        np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm", GRID, KIDNEY_TUMOR, {}), expected())
    else:
        with pytest.raises(InputError, match="holds fractions instead of labels"):
            read_segmentation(tmp_path / "seg.dcm", GRID, KIDNEY_TUMOR, {})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_what_highdicom_writes_is_read(tmp_path: Path, kind: str) -> None:
    hd = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    sources = []
    for path in write_series(tmp_path / "ct", np.zeros(GRID.shape, np.int16), GRID):
        source = dcmread(path)
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
            setattr(source, name, "")
        source.ReferringPhysicianName, source.FrameOfReferenceUID = "", "1.2.3.4.5"
        sources.append(source)
    described = [
        hd.seg.SegmentDescription(
            number,
            name,
            codes.SCT.AnatomicalStructure,
            codes.SCT.Kidney,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(("kidney", "tumor"), start=1)
    ]
    segmentation = hd.seg.Segmentation(
        sources, expected(), kind, described, "1.2.3.4.6", 5, "1.2.3.4.7", 1, "maker", "model", "1", "serial"
    )
    segmentation.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm", GRID, KIDNEY_TUMOR, {}), expected())
