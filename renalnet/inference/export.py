"""A model bundle as ONNX: the networks, for programs that have no PyTorch.

What is exported answers a sub-volume; overlap, vote, field and components are the caller's, whose numbers are written
into the model's metadata and into a JSON file beside it.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import Tensor, nn

from renalnet.config import InferenceConfig, TrainConfig, parse
from renalnet.errors import ConfigError
from renalnet.nets import build_net
from renalnet.nets.bundle import load_model, member_folders
from renalnet.runtime import storage
from renalnet.types import LABEL_NAMES, Shape

NEEDED: Final = ("onnx", "onnxscript")
_OPSET: Final = 18


class _Portable(nn.Module):
    """A network in PyTorch's own operations."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, D, H, W) to logits of the same size."""
        logits: Tensor = self.net(image)
        return logits


def export_bundle(folder: str | Path, out: str | Path) -> list[str]:
    """Write each network of a bundle as `<out>.onnx`, further ones of an ensemble as `<out>-2.onnx` and so on.

    Inputs are normalised sub-volumes (batch, 1, z, y, x) of the size that the bundle was trained to answer, float32,
    any number at once; outputs logits (batch, 3, z, y, x).

    Args:
        folder: of the bundle.
        out: path without ending, a local path or a URI.

    Returns:
        What was written: the models, then `<out>.json`.

    Raises:
        CheckpointError: the folder is no bundle, or is damaged.
        ConfigError: the packages that write ONNX are not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f'export needs {" and ".join(missing)}; install them by `pip install "renalnet[onnx]"`')
    members = member_folders(folder)
    written = []
    for number, member in enumerate(members, start=1):
        path = f"{out}.onnx" if number == 1 else f"{out}-{number}.onnx"
        storage.write_bytes(path, _exported(member, len(members)))
        written.append(path)
    about = _about(load_model(members[0])[1], len(members))
    storage.write_json(f"{out}.json", about)
    return [*written, f"{out}.json"]


def _exported(folder: str, num_members: int) -> bytes:
    weights, config = load_model(folder)
    train = parse(TrainConfig, config["train"], folder)
    net = build_net(train.net)
    net.load_state_dict(weights)
    content = to_onnx(net, _inference(config).stitch.tile)
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in _about(config, num_members).items()})
    return bytes(model.SerializeToString())


def to_onnx(net: nn.Module, tile: Shape) -> bytes:
    """A network in evaluation as an ONNX model for sub-volumes of one size, any number at once."""
    example = torch.zeros(2, 1, *tile)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with TemporaryDirectory(prefix="renalnet-") as temporary:
        path = Path(temporary) / "model.onnx"
        torch.onnx.export(
            _Portable(net).eval(),
            (example,),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes={"image": {0: batch}},
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def _inference(config: dict[str, Any]) -> InferenceConfig:
    return parse(InferenceConfig, config.get("final", {"stitch": config["train"]["stitch"]}))


def _about(config: dict[str, Any], num_members: int) -> dict[str, Any]:
    """All that the use of the networks needs."""
    return {
        "network": config["train"]["net"]["name"],
        "num_members": num_members,
        "labels": {str(value): name for value, name in LABEL_NAMES.items()},
        "normalisation": config["normalisation"],
        "roi": config.get("roi"),
        "inference": _inference(config).model_dump(mode="json"),
        "use": "clip HU to hu_min..hu_max, scale to 0..1, subtract mean; research software, not a medical device",
    }
