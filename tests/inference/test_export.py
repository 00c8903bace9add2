"""Models exported to ONNX, run with onnxruntime."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bundles import bundle_config
from support.label_sets import VESSELS

from renalnet.config import KIDNEY_TUMOR, LabelSet, NetConfig, NetName, StitchConfig, TrainConfig
from renalnet.errors import CheckpointError, ConfigError
from renalnet.inference.export import export_bundle
from renalnet.inference.stitching import stitch
from renalnet.nets import build_net
from renalnet.nets.bundle import copy_models, load_model, save_model
from renalnet.runtime import storage

pytest.importorskip("onnx", reason="the exporter's packages are optional")
pytest.importorskip("onnxscript", reason="the exporter's packages are optional")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime only runs what was exported")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
"""Warnings of PyTorch's exporter."""
NETS: tuple[NetName, ...] = ("fcn_ppm", "unet3d", "pspnet2d")
STITCH = StitchConfig(tile=(10, 18, 17), stride=(5, 9, 9))
"""Odd sizes, for which the network pads and crops."""


def save_bundle(folder: Path, name: NetName = "fcn_ppm", seed: int = 0, labels: LabelSet = KIDNEY_TUMOR) -> None:
    net_config = NetConfig(name=name, width=8, ppm_kernels=(1, 2, 4))
    train = TrainConfig(labels=labels, net=net_config, stitch=STITCH, precision="float32")
    net = build_net(train.net, train.labels, seed)
    with torch.no_grad():
        net(torch.rand(2, 1, 12, 20, 20))  # statistics that are not the first ones
        net.head.bias -= net.eval()(torch.rand(2, 1, 12, 20, 20)).mean((0, 2, 3, 4))  # no class is ahead everywhere
    save_model(folder, dict(net.state_dict()), bundle_config(train))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[NetName], Path]:
    """Return a function of a network: a folder with its bundle, exported once to `out/kidney` in it."""

    @cache
    def export(name: NetName) -> Path:
        folder = tmp_path_factory.mktemp(name)
        save_bundle(folder, name)
        target = folder / "out" / "kidney"
        assert export_bundle(folder, target) == [f"{target}.onnx", f"{target}.json"]
        return folder

    return export


def by_onnxruntime(path: Path):
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def forward(tiles: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["logits"], {"image": tiles.numpy()})[0])

    return forward


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_labels_are_the_same_under_onnxruntime(name: NetName, exported: Callable[[NetName], Path]) -> None:
    folder = exported(name)
    weights, config = load_model(folder)
    train = config.train
    net = build_net(train.net, train.labels)
    net.load_state_dict(weights)
    net.eval()
    image = np.random.default_rng(1).uniform(-0.3, 0.7, (21, 30, 33)).astype(np.float32)
    ours = stitch([net], image, STITCH, num_classes=3)
    theirs = stitch([by_onnxruntime(folder / "out" / "kidney.onnx")], image, STITCH, num_classes=3)
    highest = np.sort(ours.probability, axis=0)[-2:]
    decided = highest[1] - highest[0] > 1e-5  # untrained weights leave some voxels undecided
    assert decided.mean() > 0.9 and (theirs.labels == ours.labels).mean() > 0.9995
    np.testing.assert_array_equal(theirs.labels[decided], ours.labels[decided])
    assert len(np.unique(ours.labels)) > 1


@pytest.mark.slow
def test_any_number_of_sub_volumes_goes_at_once(exported: Callable[[NetName], Path]) -> None:
    forward = by_onnxruntime(exported("fcn_ppm") / "out" / "kidney.onnx")
    tiles = torch.rand(5, 1, *STITCH.tile)
    together = forward(tiles)
    single = torch.cat([forward(tile[None]) for tile in tiles])
    torch.testing.assert_close(together, single, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_model_says_how_it_is_used(exported: Callable[[NetName], Path]) -> None:
    import onnx

    folder = exported("fcn_ppm") / "out"
    props = {prop.key: json.loads(prop.value) for prop in onnx.load(folder / "kidney.onnx").metadata_props}
    beside = storage.read_json(folder / "kidney.json")
    assert {key: props[key] for key in beside} == beside
    assert beside["normalisation"] == {"hu_min": -200, "hu_max": 500, "mean": 0.3}
    assert beside["inference"]["stitch"]["tile"] == [10, 18, 17]
    assert beside["labels"] == {"0": "background", "1": "kidney", "2": "tumor"}


@pytest.mark.slow
def test_the_model_names_the_labels_of_its_set(tmp_path: Path) -> None:
    save_bundle(tmp_path, labels=VESSELS)
    export_bundle(tmp_path, tmp_path / "model")
    names = ["background", "kidney", "tumor", "cyst", "renal_artery", "renal_vein"]
    assert storage.read_json(tmp_path / "model.json")["labels"] == {str(n): name for n, name in enumerate(names)}
    assert by_onnxruntime(tmp_path / "model.onnx")(torch.rand(1, 1, *STITCH.tile)).shape == (1, 6, *STITCH.tile)


@pytest.mark.slow
def test_an_ensemble_is_a_file_a_member(tmp_path: Path) -> None:
    members = [str(tmp_path / f"member-{seed}") for seed in range(2)]
    for seed, member in enumerate(members):
        save_bundle(Path(member), seed=seed)
    copy_models(members, tmp_path / "best")
    names = [Path(path).name for path in export_bundle(tmp_path / "best", tmp_path / "best" / "model")]
    assert names == ["model.onnx", "model-2.onnx", "model.json"]
    tiles = torch.rand(1, 1, *STITCH.tile)
    first, second = (by_onnxruntime(tmp_path / "best" / name)(tiles) for name in names[:2])
    assert (first - second).abs().max() > 0.01


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        export_bundle(tmp_path, tmp_path / "model")
    monkeypatch.setattr("renalnet.inference.export.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match=r'needs onnxscript; install them with `pip install "\.\[onnx\]"` in the'):
        export_bundle(tmp_path, tmp_path / "model")
