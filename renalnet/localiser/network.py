"""The coarse network of the localiser, its predictions, and its file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from renalnet.config import NetConfig, parse
from renalnet.data.images.volume import Volume
from renalnet.errors import CheckpointError
from renalnet.json_text import parse_json
from renalnet.localiser.bundle_files import packaged_localiser
from renalnet.localiser.coarse_scan import scaled
from renalnet.localiser.examples import EXAMPLE_SHAPE
from renalnet.nets.blocks import SegmentationNet
from renalnet.nets.build import build_net_of_classes
from renalnet.nets.describe import unlike_weights
from renalnet.runtime import storage
from renalnet.runtime.safetensors_header import metadata_of
from renalnet.types import FloatArray

NET: Final = NetConfig(width=16, ppm_kernels=(1, 2, 4, 8))
"""Architecture: 3D_FCN_PPM, whose pyramid sees the whole body at a quarter of the coarse resolution."""
CLASS_SHARES: Final = (0.97, 0.015, 0.015)
"""Expected shares of background, left kidney and right kidney; lesions belong to their kidney."""
_METADATA_KEY: Final = "localiser"


@dataclass(frozen=True)
class CoarseNetwork:
    """A network that labels both kidneys of a whole scan on the coarse grid."""

    net: SegmentationNet
    """Network with `len(CLASS_SHARES)` classes."""
    about: dict[str, Any]
    """What it was trained on: JSON values."""

    def kidneys(self, image: Volume) -> FloatArray:
        """Return the probability of each voxel to be left and right kidney, (2, z, y, x), 0 to 1.

        Args:
            image: canonical scan on the coarse grid, int16 HU (z, y, x).
        """
        total = np.zeros((len(CLASS_SHARES) - 1, *image.array.shape), np.float32)
        count = np.zeros((image.array.shape[0], 1, 1), np.float32)
        values = scaled(image.array)
        for window in _windows(image.array.shape[0]):
            total[:, window] += self._probabilities(values[window])
            count[window] += 1
        return np.asarray(total / count, dtype=np.float32)

    def _probabilities(self, values: FloatArray) -> FloatArray:
        # Padded with air to the size of training examples, so that small scans look like those.
        missing = [max(least - size, 0) for least, size in zip(EXAMPLE_SHAPE, values.shape, strict=True)]
        padded = np.pad(values, [(add // 2, add - add // 2) for add in missing], constant_values=-1.0)
        self.net.eval()
        with torch.inference_mode():
            logits = self.net(torch.from_numpy(padded)[None, None])
        found = logits[0].float().softmax(0)[1:].numpy()
        inside = tuple(slice(add // 2, add // 2 + size) for add, size in zip(missing, values.shape, strict=True))
        return np.asarray(found[(slice(None), *inside)])


def _windows(num_slices: int) -> list[slice]:
    """Return windows as long as a training example that cover all slices and overlap by half."""
    length = EXAMPLE_SHAPE[0]
    if num_slices <= length:
        return [slice(0, num_slices)]
    count = 1 + int(np.ceil((num_slices - length) / (length / 2)))
    firsts = np.rint(np.linspace(0, num_slices - length, count)).astype(int)
    return [slice(int(first), int(first) + length) for first in firsts]


def new_network(seed: int) -> CoarseNetwork:
    """Return an untrained network with weights drawn from `seed`."""
    return CoarseNetwork(build_net_of_classes(NET, CLASS_SHARES, seed), {})


def packaged_network() -> CoarseNetwork:
    """Return the network that ships with the package.

    Raises:
        CheckpointError: the package was built without it.
    """
    return load_network(packaged_localiser())


def network_to_bytes(network: CoarseNetwork) -> bytes:
    """Return the content of a safetensors file with the weights. Its JSON metadata state what they were trained on."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.net.state_dict().items()}
    about = {"net": NET.model_dump(mode="json"), "about": network.about}
    return bytes(save(tensors, metadata={_METADATA_KEY: json.dumps(about, sort_keys=True)}))


def load_network(path: str | Path) -> CoarseNetwork:
    """Read a file that contains the bytes of `network_to_bytes`.

    Raises:
        CheckpointError: the file is missing or holds no network of a localiser.
    """
    try:
        content = storage.read_bytes(path)
        about = parse_json(metadata_of(content)[_METADATA_KEY])
        config = parse(NetConfig, about["net"], str(path))
        weights = load(content)
        # Before memory is allocated for the stated network.
        if unlike := unlike_weights(config, len(CLASS_SHARES), weights):
            raise ValueError(f"{unlike[0]} is not that of the network")
        net = build_net_of_classes(config, CLASS_SHARES, 0)
        net.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: holds no network of a localiser ({error}); prepare the store again") from error
    return CoarseNetwork(net, about["about"])
