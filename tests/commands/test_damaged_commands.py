"""`prepare` on damaged scans: either one line and exit code 2, or a complete store."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support.mutations import damaged_copy

from renalnet.__main__ import main
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.data.store.reader import open_store
from renalnet.errors import StoreError

GRID = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
SETTINGS = ("spacing_mm=null", "localise=cut", "num_atlases=1", "test_share=0", "validation_share=0")
WITHOUT_STORE = {"validation.csv", "findings.json", "checks"}


def write_cases(folder: Path, ending: str) -> Path:
    """Write two cases and return the path of the first image."""
    for index in range(2):
        image = np.random.default_rng(index).integers(-1000, 500, GRID.shape).astype(np.int16)
        label = np.zeros(GRID.shape, np.uint8)
        label[2:10, 5:35, 5 : 35 - index] = 1
        label[4:6, 10:20, 10:20] = 2
        image[label > 0] = 150
        write_volume(folder / f"case_{index}" / f"imaging{ending}", Volume(image, GRID))
        write_volume(folder / f"case_{index}" / f"segmentation{ending}", Volume(label, GRID))
    return folder / "case_0" / f"imaging{ending}"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["renalnet", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def check_prepare(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> int:
    image = write_cases(tmp_path / "src", ENDINGS[seed % len(ENDINGS)])
    sound = image.rename(tmp_path / image.name)
    damaged_copy(sound, image.parent, seed)
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    store = tmp_path / "store"
    code = run(monkeypatch, "prepare", str(tmp_path / "src"), "--out", str(store), "--workers", "1", *options)
    output = capfd.readouterr().err
    if code == 0:
        open_store(store).verify()
        return code
    assert code == 2 and len(output.strip().splitlines()) == 1 and output.startswith("error: case_0: "), output
    assert {path.name for path in store.iterdir()} <= WITHOUT_STORE
    with pytest.raises(StoreError, match="no store here"):
        open_store(store)
    return code


@pytest.mark.slow
def test_damaged_scans_end_prepare_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = [check_prepare(seed, tmp_path / str(seed), monkeypatch, capfd) for seed in (0, 1)]
    assert 2 in codes


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_damaged_scans(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check_prepare(seed, tmp_path, monkeypatch, capfd)
