"""From folders of scans to a store."""

from pathlib import Path

import numpy as np
import pytest

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.atlas import load_atlases
from renalnet.data.phantom import paint_abdomen
from renalnet.data.prepare import ATLAS_FILE, COHORT_FILE, prepare
from renalnet.data.store import open_store
from renalnet.data.volume import Grid, Volume, write_volume
from renalnet.errors import InputError, StoreError

PHANTOM = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2))
WHOLE = PrepareConfig(spacing_mm=(3.0, 2.0, 2.0), num_atlases=2, atlas_spacing_mm=8.0)
CUT = PrepareConfig(spacing_mm=None, localise="cut", num_atlases=1, slab_slices=4)
GRID = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))


def write_case(folder: Path, image: Volume, label: Volume) -> None:
    write_volume(folder / "imaging.nii.gz", image)
    write_volume(folder / "segmentation.nii.gz", label)


def write_rois(folder: Path, count: int, first: int = 0) -> Path:
    for index in range(first, first + count):
        rng = np.random.default_rng(index)
        image, label = rng.integers(-1000, 500, GRID.shape).astype(np.int16), np.zeros(GRID.shape, np.uint8)
        label[2:10, 5:35, 5:35], label[4:6, 10:20, 10:20] = 1, 2
        image[label > 0] = 150
        write_case(folder / f"case_{index}", Volume(image, GRID), Volume(label, GRID))
    return folder


@pytest.fixture(scope="module")
def abdomens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abdomens")
    for index in range(4):
        painted = paint_abdomen(PHANTOM, index)
        write_case(folder / f"case_{index}", painted.image, painted.label)
    (folder / COHORT_FILE).write_text("{}")
    return folder


def test_whole_scans_are_localised_and_every_labelled_voxel_is_kept(abdomens: Path, tmp_path: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    summary = prepare(abdomens, tmp_path, WHOLE, progress=lambda *stage: stages.append(stage))
    assert stages[-1] == ("cut", 4, 4)
    assert sum(summary.num_cases.values()) == 4
    assert summary.num_not_localised == 0
    store = open_store(tmp_path)
    store.verify()
    assert store.manifest.synthetic
    assert {atlas.name for atlas in load_atlases(tmp_path / ATLAS_FILE)} <= {
        *store.cases("train"),
        "phantom-0",
    }
    for index, case in enumerate(store.cases()):
        roi, truth = store.read(case), paint_abdomen(PHANTOM, index)
        assert roi.grid.spacing_mm == (3.0, 2.0, 2.0)
        tumor_ml = (roi.label == 2).sum() * roi.grid.voxel_ml
        assert tumor_ml == pytest.approx((truth.label.array == 2).sum() * truth.label.grid.voxel_ml, rel=0.1, abs=0.3)


def test_two_workers_write_the_same_store(abdomens: Path, tmp_path: Path) -> None:
    prepare(abdomens, tmp_path / "one", WHOLE)
    prepare(abdomens, tmp_path / "two", WHOLE, workers=2)
    assert open_store(tmp_path / "one").manifest == open_store(tmp_path / "two").manifest


def test_cut_rois_go_through_untouched(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 4)
    summary = prepare(src, tmp_path / "store", CUT)
    assert (sum(summary.num_cases.values()), summary.num_grown) == (4, 0)
    roi = open_store(tmp_path / "store").read("case_0")
    expected = np.random.default_rng(0).integers(-1000, 500, GRID.shape)
    np.testing.assert_array_equal(roi.image[roi.label == 0], expected[roi.label == 0])
    assert [atlas.name for atlas in load_atlases(tmp_path / "store" / ATLAS_FILE)] == ["phantom-0"]
    assert not open_store(tmp_path / "store").manifest.synthetic


def test_a_second_folder_is_held_out(tmp_path: Path) -> None:
    src, test_src = write_rois(tmp_path / "src", 3), write_rois(tmp_path / "test", 2, first=3)
    prepare(src, tmp_path / "store", CUT, test_src=test_src)
    assert open_store(tmp_path / "store").cases("test") == ["case_3", "case_4"]
    with pytest.raises(InputError, match=r"case 'case_0' is in .* and in .*; remove or rename"):
        prepare(src, tmp_path / "other", CUT, test_src=src)


def test_the_same_again_is_kept_and_anything_else_refused(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 3)
    first = prepare(src, tmp_path / "store", CUT)
    assert prepare(src, tmp_path / "store", CUT) == first
    with pytest.raises(StoreError, match="other cases, splits or settings; choose another folder"):
        prepare(src, tmp_path / "store", CUT.model_copy(update={"hu_max": 400}))
    write_rois(src, 1, first=3)
    with pytest.raises(StoreError, match="other cases, splits or settings"):
        prepare(src, tmp_path / "store", CUT)


def test_all_cases_are_checked_before_one_is_cut(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2)
    for case in ("case_8", "case_9"):
        image = Volume(np.full(GRID.shape, ord(case[-1]), np.int16), GRID)
        write_case(src / case, image, Volume(np.zeros(GRID.shape, np.uint8), GRID))
    with pytest.raises(InputError, match=r"case_8: the label is empty.*\(and 3 more\)"):
        prepare(src, tmp_path / "store", CUT)
    assert not (tmp_path / "store").exists()


def test_one_patient_under_two_names_is_refused(tmp_path: Path) -> None:
    src = write_rois(tmp_path / "src", 2)
    (src / "case_0").rename(src / "copy")
    write_rois(src, 1)
    with pytest.raises(InputError, match="copy: the same image as case 'case_0'"):
        prepare(src, tmp_path / "store", CUT)
