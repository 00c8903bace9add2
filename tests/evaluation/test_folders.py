"""Two folders of masks, measured from Python without a pool."""

from pathlib import Path

import numpy as np
import pytest

import renalnet
from renalnet.errors import InputError
from renalnet.runtime.workers import Workers

GRID = renalnet.Grid.axis_aligned((4, 5, 6), (3.0, 1.0, 1.0))


def write_masks(folder: Path, *, kidney_rows: int) -> None:
    """Write two masks with a kidney of 2 slices, some rows and 3 columns."""
    for case in ("a", "b"):
        labels = np.zeros(GRID.shape, np.uint8)
        labels[1:3, :kidney_rows, 1:4] = 1
        renalnet.write_volume(folder / f"{case}.nii.gz", renalnet.Volume(labels, GRID))


def test_a_folder_in_the_layout_of_kits_is_a_truth(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", kidney_rows=2)
    for name, label in (("a", "segmentation"), ("b", "aggregated_MAJ_seg")):
        mask = renalnet.read_volume(tmp_path / "masks" / f"{name}.nii.gz")
        renalnet.write_volume(tmp_path / "kits" / name / f"{label}.nii.gz", mask)
        renalnet.write_volume(tmp_path / "kits" / name / "imaging.nii.gz", mask)
    found = renalnet.evaluate_folders(tmp_path / "kits", tmp_path / "masks")
    assert found["cases"].keys() == {"a", "b"}
    assert found["cases"]["a"]["kidney"]["dice"] == found["cases"]["b"]["kidney"]["dice"] == 1.0


def test_folders_are_measured_in_this_process(tmp_path: Path) -> None:
    write_masks(tmp_path / "truth", kidney_rows=2)
    write_masks(tmp_path / "pred", kidney_rows=1)
    found = renalnet.evaluate_folders(str(tmp_path / "truth"), tmp_path / "pred")
    # 6 of 12 true voxels are found, none is wrong: 2 · 6 / (12 + 6).
    assert found["summary"]["kidney"]["mean"]["dice"] == pytest.approx(2 / 3)
    assert sorted(found["cases"]) == ["a", "b"]
    with Workers(1) as pool:
        assert renalnet.evaluate_folders(tmp_path / "truth", tmp_path / "pred", pool) == found


def test_a_mask_of_an_image_in_the_layout_of_nnunet_belongs_to_its_case(tmp_path: Path) -> None:
    write_masks(tmp_path / "truth", kidney_rows=2)
    write_masks(tmp_path / "pred", kidney_rows=1)
    expected = renalnet.evaluate_folders(tmp_path / "truth", tmp_path / "pred")
    (tmp_path / "pred" / "a.nii.gz").rename(tmp_path / "pred" / "a_0000.nii.gz")
    assert renalnet.evaluate_folders(tmp_path / "truth", tmp_path / "pred") == expected
    # With both names, `a_0000` is another case, of which there is no truth.
    renalnet.write_volume(tmp_path / "pred" / "a.nii.gz", renalnet.read_volume(tmp_path / "pred" / "b.nii.gz"))
    with pytest.raises(InputError, match=r"truth: lacks 1 of 3 masks \(a_0000\)"):
        renalnet.evaluate_folders(tmp_path / "truth", tmp_path / "pred")


def test_a_folder_named_by_text_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        renalnet.evaluate_folders(str(tmp_path / "none"), str(tmp_path))
