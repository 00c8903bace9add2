"""Export of a model bundle's networks to ONNX, for programs without PyTorch.

An exported network segments one sub-volume. Overlap, vote, dense CRF and connectivity are left to the caller. Their
parameters are written into the model's metadata and into a JSON file beside it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import Tensor, nn

from renalnet.errors import ConfigError
from renalnet.inference.pipeline import network_of
from renalnet.nets.bundle import BundleConfig, load_model, member_folders, model_digest, read_config
from renalnet.runtime import storage
from renalnet.types import Shape

NEEDED: Final = ("onnx", "onnxscript")
# PyTorch's exporter translates to this opset; a model of another one would be converted afterwards.
_OPSET: Final = 18


class _Portable(nn.Module):
    """A network as a module that takes one image and returns its logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, C, D, H, W) of an image (B, 1, D, H, W)."""
        logits: Tensor = self.net(image)
        return logits


def export_bundle(folder: str | Path, out: str | Path) -> list[str]:
    """Write each network of a bundle as `<out>.onnx`; further members of an ensemble as `<out>-2.onnx` and so on.

    The input is a batch of any number of normalised sub-volumes (batch, 1, z, y, x), float32, of the size that the
    bundle's configuration states. The output is logits (batch, C, z, y, x) of C classes.

    Args:
        folder: folder of the bundle.
        out: local path or URI without ending.

    Returns:
        Paths of the files that were written: the models, then `<out>.json`.

    Raises:
        CheckpointError: the folder is not a bundle or is damaged.
        ConfigError: the packages that write ONNX are not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        needed = " and ".join(missing)
        raise ConfigError(f'export needs {needed}; install them with `pip install ".[onnx]"` in the clone')
    members = member_folders(folder)
    digests = [model_digest(member) for member in members]
    written = []
    for number, member in enumerate(members, start=1):
        path = f"{out}.onnx" if number == 1 else f"{out}-{number}.onnx"
        storage.write_bytes(path, _exported(member, digests))
        written.append(path)
    about = about_bundle(read_config(members[0]), digests)
    storage.write_json(f"{out}.json", about)
    return [*written, f"{out}.json"]


def _exported(folder: str, digests: Sequence[str]) -> bytes:
    weights, config = load_model(folder)
    content = to_onnx(network_of(folder, weights, config.train), config.inference.stitch.tile)
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in about_bundle(config, digests).items()})
    return bytes(model.SerializeToString())


def to_onnx(net: nn.Module, tile: Shape) -> bytes:
    """Return a network in evaluation mode as an ONNX model for batches of sub-volumes of one size."""
    # With an example of one sub-volume, torch.export would fix the batch to one.
    example = torch.zeros(2, 1, *tile)
    batch = torch.export.Dim("batch", min=1, max=4096)
    # The exporter writes to local paths only, but `out` may be a URI.
    with TemporaryDirectory(prefix="renalnet-") as temporary:
        path = Path(temporary) / "model.onnx"
        torch.onnx.export(
            _Portable(net).eval(),
            (example,),
            path,
            input_names=["image"],
            output_names=["logits"],
            # The key is the name of the parameter of `_Portable.forward`.
            dynamic_shapes={"image": {0: batch}},
            opset_version=_OPSET,
            dynamo=True,
            # The weights are in the model's file, since only this file is read back.
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def about_bundle(config: BundleConfig, digests: Sequence[str]) -> dict[str, Any]:
    """Return where the networks come from and all parameters that their use needs, as plain values.

    Args:
        config: configuration of the bundle.
        digests: checksum of the weights of each network.
    """
    return {
        "renalnet": version("renalnet"),
        "model_sha256": list(digests),
        "network": config.train.net.name,
        "num_members": len(digests),
        "labels": {str(value): name for value, name in enumerate(config.train.labels.class_names)},
        "normalisation": asdict(config.normalisation),
        "roi": config.roi.model_dump(mode="json") if config.roi else None,
        "inference": config.inference.model_dump(mode="json"),
        "use": "clip HU to hu_min..hu_max, scale to 0..1, subtract mean; research software, not a medical device",
    }
