"""The model bundle that ships with the package, and commands that name no other one."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support.bundles import bundle_config

import renalnet
from renalnet.__main__ import main
from renalnet.config import (
    CrfConfig,
    InferenceConfig,
    NetConfig,
    PrepareConfig,
    StitchConfig,
    TrainConfig,
)
from renalnet.config.training import PACKAGED
from renalnet.data.images.grid import Grid
from renalnet.data.images.volume import Volume, read_volume, write_volume
from renalnet.data.localise.atlas import ATLAS_FILE, atlases_to_bytes
from renalnet.errors import CheckpointError
from renalnet.inference.pipeline import load_bundle
from renalnet.localiser.bundle_files import LOCALISER_FILE
from renalnet.localiser.network import network_to_bytes, new_network
from renalnet.nets import build_net
from renalnet.nets.bundle import CONFIG_FILE, save_model
from renalnet.nets.packaged import absolute_bundle, bundle_folder, packaged_bundle
from renalnet.prediction.predictor import load_predictor
from renalnet.train.initial_weights import pinned

ROI = Grid.axis_aligned((24, 40, 44), (3.0, 2.0, 2.0))
"""As small as an ROI that is already cut, so that no kidney is searched for."""
MAX_MB = 8


def write_bundle(folder: Path) -> None:
    """Write an untrained network with all that `predict` needs."""
    stitch = StitchConfig(tile=(16, 32, 32), stride=(8, 16, 16))
    train = TrainConfig(net=NetConfig(width=4, ppm_kernels=(1, 2)), stitch=stitch, precision="float32")
    config = bundle_config(
        train,
        roi=PrepareConfig(spacing_mm=(3.0, 2.0, 2.0)),
        final=InferenceConfig(crf=CrfConfig(iterations=0), stitch=stitch),
    )
    save_model(folder, dict(build_net(train.net, train.labels).state_dict()), config)
    (folder / ATLAS_FILE).write_bytes(atlases_to_bytes([]))
    (folder / LOCALISER_FILE).write_bytes(network_to_bytes(new_network(0)))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package, still without a bundle."""
    monkeypatch.setattr("renalnet.bundles.files", lambda _: tmp_path / "package")
    return tmp_path / "package"


@pytest.fixture
def packaged(package: Path) -> Path:
    """The packaged bundle, of an untrained network."""
    folder = package / "bundles" / "phantom"
    write_bundle(folder)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["renalnet", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(-200, 400, ROI.shape).astype(np.int16)
    write_volume(tmp_path / "scan.nii.gz", Volume(image, ROI))
    return tmp_path / "scan.nii.gz"


@pytest.mark.slow
def test_without_model_predict_uses_the_packaged_bundle_and_says_what_it_is(
    packaged: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch, "predict", str(scan), "--out", str(tmp_path / "out"))
    output, errors = capfd.readouterr()
    assert code == 0, errors
    first, *_ = errors.splitlines()
    assert first == (
        "model: 'phantom', which ships with renalnet. It was trained on painted phantoms alone, on no scan of a "
        "patient; --model names another one."
    )
    assert str(tmp_path / "out" / "scan.nii.gz") in output
    mask = read_volume(tmp_path / "out" / "scan.nii.gz").array
    np.testing.assert_array_equal(mask, load_predictor(packaged).segment_file(scan).mask.array)


def test_a_package_without_its_bundle_is_one_line(
    package: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match=r"bundles/phantom: the bundle of the package is missing"):
        packaged_bundle()
    assert run(monkeypatch, "predict", str(scan), "--out", str(tmp_path / "out")) == 2
    errors = capfd.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert not (tmp_path / "out").exists()


def test_a_run_may_begin_with_the_packaged_bundle(packaged: Path) -> None:
    """The word stays, because the package may be elsewhere on another node."""
    config = TrainConfig(net=NetConfig(width=4, ppm_kernels=(1, 2)), init=PACKAGED)
    assert pinned(config).init == PACKAGED
    assert len(str(pinned(config).init_sha256)) == 64


@pytest.mark.usefixtures("packaged")
def test_export_does_not_write_into_the_package(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "export", PACKAGED) == 2
    assert "name where to write with --out" in capfd.readouterr().err


def test_a_bundle_is_named_by_its_folder_or_the_word(packaged: Path) -> None:
    assert (bundle_folder(PACKAGED), bundle_folder(Path("/a/b"))) == (str(packaged), "/a/b")
    assert absolute_bundle(PACKAGED) == PACKAGED
    assert absolute_bundle("best") == str(Path("best").absolute())


@pytest.mark.skipif(
    not (Path(renalnet.__file__).parent / "bundles" / "phantom" / CONFIG_FILE).exists(),
    reason="the package was built without its bundle",
)
def test_the_packaged_bundle_is_small_and_whole() -> None:
    files = [path for path in Path(packaged_bundle()).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_MB * 2**20
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md"}
    assert (Path(packaged_bundle()) / LOCALISER_FILE).exists()
    assert load_bundle(packaged_bundle()).config.train.labels.name == "kidney_tumor"
    assert load_predictor(PACKAGED).prepare.spacing_mm == (2.0, 1.95, 1.95)
