"""The networks of a model bundle as one TorchScript module, for programs without renalnet."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from renalnet.config import StitchConfig
from renalnet.inference.stitching import gaussian_weight, mirror_flips


class SubVolumeScores(nn.Module):
    """From sub-volumes to scores of the classes, whose mean over all sub-volumes decides a voxel as `stitch` does.

    Where the bundle votes, the score of a class is the share of the networks that vote for it. Ties are decided by the
    sum of the probabilities, so `tie_weight` times the probability is added. Otherwise the score is the probability,
    for `gaussian` times the weight of the voxel.
    """

    voxel_weight: Tensor

    def __init__(self, nets: Sequence[nn.Module], stitch: StitchConfig) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.stitch = stitch
        self.tie_weight = tie_weight(stitch, len(nets))
        if stitch.combine == "gaussian":
            self.register_buffer("voxel_weight", gaussian_weight(stitch.tile))

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, C, D, H, W) of normalised sub-volumes (B, 1, D, H, W), float32."""
        scores = [self._score(self._probability(net, image)) for net in self.nets]
        return torch.stack(scores).mean(dim=0)

    def _probability(self, net: nn.Module, image: Tensor) -> Tensor:
        flips = mirror_flips(self.stitch)
        return torch.stack([net(image.flip(flip)).float().softmax(dim=1).flip(flip) for flip in flips]).mean(dim=0)

    def _score(self, probability: Tensor) -> Tensor:
        if self.stitch.combine == "gaussian":
            return probability * self.voxel_weight
        if self.stitch.combine == "mean":
            return probability
        is_highest = probability == probability.amax(dim=1, keepdim=True)
        # The lower label among equals. No tensor is created here: it would stay on the device of the export.
        is_vote = is_highest & (is_highest.cumsum(dim=1) == 1)
        return is_vote.to(probability.dtype) + self.tie_weight * probability


def tie_weight(stitch: StitchConfig, num_networks: int) -> float:
    """Return the weight of probabilities beside votes: together they stay below one vote. 0 without a vote."""
    if stitch.combine != "vote":
        return 0.0
    # The last sub-volume of an axis is shifted back, and covers voxels once more.
    covers = [math.ceil(tile / stride) + 1 for tile, stride in zip(stitch.tile, stitch.stride, strict=True)]
    return 1 / (1 + num_networks * math.prod(covers))


def to_torchscript(nets: Sequence[nn.Module], stitch: StitchConfig, files: Mapping[str, str]) -> bytes:
    """Return the content of a TorchScript file of `SubVolumeScores`, for batches of sub-volumes of one size.

    It computes in float32 on any device of PyTorch.

    Args:
        nets: networks of the same classes, as they are trained. Their parameters no longer require gradients.
        stitch: size of the sub-volumes, and how they are combined.
        files: texts by name, which are stored in the file.
    """
    scores = SubVolumeScores(nets, stitch).eval().requires_grad_(False)
    content = io.BytesIO()
    # With gradients enabled, the networks use operations that all devices have, and otherwise those of oneDNN.
    with torch.enable_grad(), warnings.catch_warnings():
        # TorchScript is deprecated, and warns of each size that it fixes; MONAI reads it all the same.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(scores, torch.zeros(1, 1, *stitch.tile), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, content, _extra_files=dict(files))
    return content.getvalue()
