"""Model bundles as MONAI bundles: their files, and the masks that MONAI alone makes of them."""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from support import commands
from support.bundles import bundle_config

from renalnet.config import InferenceConfig, NetConfig, NetName, Normalisation, PrepareConfig, StitchConfig, TrainConfig
from renalnet.data.images.volume import Grid, Volume, canonical, read_volume, write_volume
from renalnet.errors import CheckpointError, InputError
from renalnet.inference.monai_bundle import export_monai, inference, metadata
from renalnet.inference.pipeline import load_bundle, vote_roi
from renalnet.inference.torchscript import SubVolumeScores, tie_weight, to_torchscript
from renalnet.nets import build_net
from renalnet.nets.bundle import copy_models, load_model, save_model

SPACING_MM = (3.0, 2.0, 1.5)
STITCH = StitchConfig(tile=(10, 18, 17), stride=(5, 9, 9))
"""Odd sizes, for which the network pads and crops. 17 times one minus the overlap of 8/17 is below 9 in MONAI."""


LEAST_SHARE = 0.9995
"""Of equal voxels. Untrained weights leave some voxels undecided."""


def net_of(train: TrainConfig, seed: int) -> torch.nn.Module:
    """Return an untrained network of which no class is ahead everywhere."""
    net = build_net(train.net, train.labels, seed)
    with torch.no_grad():
        net(torch.rand(2, 1, 12, 20, 20))  # statistics that are not the first ones
        net.head.bias -= net.eval()(torch.rand(2, 1, 12, 20, 20)).mean((0, 2, 3, 4))
    return net


def save_bundle(folder: Path, stitch: StitchConfig = STITCH, name: NetName = "fcn_ppm", seed: int = 0) -> str:
    train = TrainConfig(net=NetConfig(name=name, width=8, ppm_kernels=(1, 2, 4)), precision="float32")
    roi = PrepareConfig(spacing_mm=SPACING_MM)
    final = InferenceConfig(stitch=stitch)
    config = bundle_config(train, roi=roi, final=final, validation={"dice_kidney": 0.75})
    save_model(folder, dict(net_of(train, seed).state_dict()), config)
    return str(folder)


def test_the_metadata_has_the_keys_of_monais_schema() -> None:
    """Those that `meta_schema_20240725.json` requires, by hand-worked values."""
    config = bundle_config(TrainConfig(), final=InferenceConfig(stitch=STITCH))
    found = metadata(config, ["0" * 64])
    assert found["renalnet"]["model_sha256"] == ["0" * 64] and found["renalnet"]["num_members"] == 1
    texts = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description")
    assert all(isinstance(found[name], str) and found[name] for name in (*texts, "authors", "copyright"))
    assert found["required_packages_version"].keys() == {"nibabel"}
    shared = {"type": "image", "spatial_shape": [10, 18, 17], "dtype": "float32", "is_patch_data": True}
    assert found["network_data_format"]["inputs"]["image"] == {
        **shared,
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 1,
        "value_range": [-0.3, 0.7],
        "channel_def": {"0": "CT"},
    }
    # Along each axis, up to 2 sub-volumes and the last one that is shifted back: 27 votes.
    assert found["network_data_format"]["outputs"]["pred"] == {
        **shared,
        "format": "labels",
        "num_channels": 3,
        "value_range": [0, 1 + 1 / 28],
        "channel_def": {"0": "background", "1": "kidney", "2": "tumor"},
    }
    assert found["renalnet"]["normalisation"] == {"hu_min": -200, "hu_max": 500, "mean": 0.3}


def test_the_inference_has_the_numbers_of_the_bundle() -> None:
    config = bundle_config(
        TrainConfig(), roi=PrepareConfig(spacing_mm=SPACING_MM), final=InferenceConfig(stitch=STITCH)
    )
    found = inference(config)
    parts = {part["_target_"]: part for part in found["preprocessing"]["transforms"]}
    assert list(parts) == [
        *("LoadImaged", "EnsureChannelFirstd", "Orientationd", "Spacingd", "ScaleIntensityRanged", "EnsureTyped")
    ]
    assert parts["Spacingd"]["pixdim"] == [3.0, 2.0, 1.5]
    scale = parts["ScaleIntensityRanged"]
    assert [scale[name] for name in ("a_min", "a_max", "b_min", "b_max")] == [-200, 500, -0.3, 0.7]
    assert found["inferer"]["roi_size"] == [10, 18, 17] and found["inferer"]["mode"] == "constant"
    own_spacing = config.model_copy(update={"roi": PrepareConfig(spacing_mm=None)})
    assert "Spacingd" not in str(inference(own_spacing))


@pytest.mark.parametrize(("size", "stride"), [(17, 9), (64, 16), (150, 75), (10, 10), (1024, 1023), (49, 1), (3, 1)])
def test_monai_takes_the_stride_of_the_bundle(size: int, stride: int) -> None:
    """MONAI cuts the product to an integer."""
    stitch = StitchConfig(tile=(size, 8, 8), stride=(stride, 8, 8))
    overlap, *_ = inference(bundle_config(TrainConfig(), final=InferenceConfig(stitch=stitch)))["inferer"]["overlap"]
    assert 0 <= overlap < 1 and int(size * (1 - overlap)) == stride


class Fixed(torch.nn.Module):
    """A network that returns given logits, whatever the image."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)[None, :, None, None, None]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 0 + self.logits


def test_scores_are_votes_and_decide_ties_by_probability() -> None:
    """One network has 0.5, 0.3, 0.2, the other 0.1, 0.6, 0.3: one vote each for the classes 0 and 1."""
    nets = [Fixed(np.log(shares).tolist()) for shares in ([0.5, 0.3, 0.2], [0.1, 0.6, 0.3])]
    stitch = StitchConfig(tile=(1, 1, 1), stride=(1, 1, 1))
    assert tie_weight(stitch, 2) == 1 / 17  # at most 2 sub-volumes along each axis, 2 networks
    scores = SubVolumeScores(nets, stitch)(torch.zeros(1, 1, 1, 1, 1)).flatten().tolist()
    assert scores == pytest.approx([0.5 + 0.3 / 17, 0.5 + 0.45 / 17, 0.25 / 17])
    mean = SubVolumeScores(nets, stitch.model_copy(update={"combine": "mean"}))(torch.zeros(1, 1, 1, 1, 1))
    assert mean.flatten().tolist() == pytest.approx([0.3, 0.45, 0.25])
    tied = SubVolumeScores([Fixed([1.0, 1.0, 0.0])], stitch)(torch.zeros(1, 1, 1, 1, 1)).flatten()
    assert tied.argmax() == 0 and tied[0] - tied[1] == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_ppm", "unet3d", "pspnet2d"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_gives_the_scores_on_any_device_and_batch(name: NetName) -> None:
    net = net_of(TrainConfig(net=NetConfig(name=name, width=8, ppm_kernels=(1, 2, 4))), 0)
    content = to_torchscript([net], STITCH, {"a.json": "{}"})
    files = {"a.json": ""}
    loaded = torch.jit.load(io.BytesIO(content), _extra_files=files)
    assert files == {"a.json": b"{}"}
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    sub_volumes = torch.rand(3, 1, *STITCH.tile) - 0.3
    with torch.inference_mode():
        expected = SubVolumeScores([net.eval()], STITCH)(sub_volumes)
        found = loaded(sub_volumes)
    votes = expected.argmax(1)
    assert (found.argmax(1) == votes).float().mean() >= LEAST_SHARE and len(votes.unique()) > 1
    code = str(loaded.inlined_graph)
    assert "mkldnn" not in code  # of oneDNN, which no GPU has
    assert 'Device = prim::Constant[value="cpu"]' not in code


def roi_image(folder: Path) -> np.ndarray:
    """Write an ROI whose rows are reversed, as converters from DICOM do. Return its CT numbers (z, y, x) in LPS."""
    image = np.random.default_rng(1).integers(-300, 600, (21, 30, 33)).astype(np.int16)
    # The rows run to the front: the first one, at y = 88 mm, is the last one of the ROI.
    flipped = Grid((33, 30, 21), (1.5, 2.0, 3.0), (-20.5, 88.0, -40.0), (1, 0, 0, 0, -1, 0, 0, 0, 1))
    write_volume(folder / "case_0000.nii.gz", Volume(np.ascontiguousarray(image[:, ::-1]), flipped))
    return image


def by_monai(bundle: Path, images: Path, out: Path) -> None:
    run = pytest.importorskip("monai.bundle", reason="MONAI only runs what was exported").run
    run(
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        dataset_dir=str(images),
        output_dir=str(out),
    )


MODES: dict[str, dict[str, Any]] = {
    "vote": {},
    "mean and mirror": {"combine": "mean", "mirror": ("z", "x")},
    "gaussian": {"combine": "gaussian"},
}
"""How sub-volumes are combined."""


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore")
def test_monai_segments_an_roi_as_the_bundle_does(mode: str, tmp_path: Path) -> None:
    stitch = STITCH.model_copy(update=MODES[mode])
    folder = save_bundle(tmp_path / "bundle", stitch)
    image = roi_image(tmp_path / "images")
    export_monai(folder, tmp_path / "monai")
    by_monai(tmp_path / "monai", tmp_path / "images", tmp_path / "masks")
    written = read_volume(tmp_path / "masks" / "case_0000.nii.gz")
    assert written.array.dtype == np.uint8
    np.testing.assert_allclose(
        nibabel.load(tmp_path / "masks" / "case_0000.nii.gz").affine,
        nibabel.load(tmp_path / "images" / "case_0000.nii.gz").affine,
        atol=1e-5,
    )
    ours = vote_roi(load_bundle(folder), image, stitch).labels
    assert len(np.unique(ours)) > 1
    assert (canonical(written, is_label=True).array == ours).mean() >= LEAST_SHARE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_ensemble_votes_together(tmp_path: Path) -> None:
    members = [save_bundle(tmp_path / f"member-{seed}", seed=seed) for seed in range(3)]
    copy_models(members, tmp_path / "best")
    image = roi_image(tmp_path / "images")
    export_monai(tmp_path / "best", tmp_path / "monai")
    by_monai(tmp_path / "monai", tmp_path / "images", tmp_path / "masks")
    found = canonical(read_volume(tmp_path / "masks" / "case_0000.nii.gz"), is_label=True).array
    ours = vote_roi(load_bundle(str(tmp_path / "best")), image, STITCH).labels
    assert (found == ours).mean() >= LEAST_SHARE
    alone = vote_roi(load_bundle(members[0]), image, STITCH).labels
    assert (alone == ours).mean() < 0.99


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_monai_finds_no_fault(tmp_path: Path) -> None:
    monai = pytest.importorskip("monai", reason="MONAI only checks what was exported")
    folder = Path(export_monai(save_bundle(tmp_path / "bundle"), tmp_path / "monai"))
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert written == [
        "LICENSE",
        "configs/inference.json",
        "configs/metadata.json",
        "docs/README.md",
        "models/model.ts",
    ]
    configs = {name: str(folder / "configs" / f"{name}.json") for name in ("metadata", "inference")}
    monai.bundle.verify_net_in_out(
        "network_def", meta_file=configs["metadata"], config_file=configs["inference"], bundle_root=str(folder)
    )
    workflow = monai.bundle.ConfigWorkflow(configs["inference"], configs["metadata"], workflow_type="infer")
    workflow.initialize()
    assert {name for name, each in monai.bundle.properties.InferProperties.items() if each["required"]} <= set(
        workflow.parser.config
    )
    net, stated, files = monai.data.load_net_with_metadata(
        str(folder / "models" / "model.ts"), more_extra_files=["inference.json"]
    )
    assert stated == json.loads(Path(configs["metadata"]).read_text())
    assert json.loads(files["inference.json"]) == json.loads(Path(configs["inference"]).read_text())
    assert net(torch.rand(1, 1, *STITCH.tile)).shape == (1, 3, *STITCH.tile)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_writes_a_new_folder(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "bundle")
    arguments = [
        sys.executable,
        "-m",
        "renalnet",
        "export",
        bundle,
        "--format",
        "monai",
        "--out",
        str(tmp_path / "[/m]"),
    ]
    done = commands.run(arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / '[/m]'}\n", "")
    readme = (tmp_path / "[/m]" / "docs" / "README.md").read_text()
    assert "(batch, 1, 10, 18, 17)" in readme and "0 background, 1 kidney, 2 tumor" in readme
    again = commands.run(arguments)
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    assert "exists, and is not overwritten; name another folder, or remove it" in again.stderr


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        export_monai(tmp_path, tmp_path / "monai")
    (tmp_path / "taken").mkdir()
    members = [save_bundle(tmp_path / f"member-{seed}", seed=seed) for seed in range(2)]
    with pytest.raises(InputError, match="taken: exists"):
        export_monai(members[0], tmp_path / "taken")
    copy_models(members, tmp_path / "best")
    weights, config = load_model(tmp_path / "best" / "members" / "2")
    other = config.model_copy(update={"normalisation": Normalisation(-200, 500, 0.25)})
    save_model(tmp_path / "best" / "members" / "2", weights, other)
    with pytest.raises(CheckpointError, match="name members that were trained on the same store"):
        export_monai(tmp_path / "best", tmp_path / "monai")
    assert not (tmp_path / "monai").exists() and list((tmp_path / "taken").iterdir()) == []
