from pathlib import Path

import pytest

from renalnet.errors import CheckpointError, InputError
from renalnet.predict import load_predictor, scan_names


def test_masks_are_named_after_their_scans() -> None:
    assert scan_names([Path("a/1.2.840.nii.gz"), Path("b/x.nrrd")]) == ["1.2.840", "x"]


def test_repeated_names_take_their_folders() -> None:
    scans = [Path("case_1/imaging.nii.gz"), Path("case_2/imaging.nii.gz"), Path("c/other.mha")]
    assert scan_names(scans) == ["case_1", "case_2", "other"]


def test_names_that_stay_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="two scans would write the mask 'a'"):
        scan_names([Path("x/a/imaging.nii.gz"), Path("y/a/imaging.nii.gz")])


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        load_predictor(tmp_path)
