"""Weighted cross-entropy (paper, Eq. 1)."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from renalnet.types import IGNORE_LABEL, Triple


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Triple, weight_sum: Tensor | None = None) -> Tensor:
    """−Σ w·log q over the counted voxels, divided by the sum of their weights (PyTorch's normalisation).

    Args:
        logits: (B, 3, D, H, W), any floating dtype; the loss is computed in float32.
        labels: (B, D, H, W), uint8 or another integer: 0, 1, 2, or `IGNORE_LABEL` where none counts.
        weights: of background, kidney and tumor.
        weight_sum: what to divide by instead: `sum_of_weights` of the whole batch, where these are some of its crops.

    Returns:
        A scalar. Zero, with zero gradient, where no voxel counts.
    """
    # Autocast would leave the logits as they are; bfloat16 is too coarse to sum a logarithm in.
    table = _table(weights, logits.device)
    total = F.cross_entropy(logits.float(), labels.long(), table, ignore_index=IGNORE_LABEL, reduction="sum")
    return total / (sum_of_weights(labels, weights) if weight_sum is None else weight_sum)


def sum_of_weights(labels: Tensor, weights: Triple) -> Tensor:
    """Sum of the weights of the voxels that count, a scalar on the labels' device; more than zero even for none."""
    counts = torch.stack([(labels == label).sum() for label in range(len(weights))])
    return (_table(weights, labels.device) * counts).sum().clamp_min(torch.finfo(torch.float32).tiny)


def supervised_loss(
    outputs: Sequence[Tensor], labels: Tensor, weights: Triple, weight_sum: Tensor | None = None
) -> Tensor:
    """`weighted_cross_entropy` of a network's `training_logits`.

    With deep supervision each coarser output counts half of the one before it; the shares add up to one
    (reconstruction). The losses of a batch's parts, each divided by the whole's `weight_sum`, add up to the whole's.
    """
    shares = [0.5**step for step in range(len(outputs))]
    losses = [
        share * weighted_cross_entropy(logits, labels, weights, weight_sum)
        for share, logits in zip(shares, outputs, strict=True)
    ]
    return torch.stack(losses).sum() / sum(shares)


@lru_cache(maxsize=8)
def _table(weights: Triple, device: torch.device) -> Tensor:
    """The weights on the device: sending them there at each step would wait for the GPU."""
    with torch.inference_mode(False):
        return torch.tensor(weights, dtype=torch.float32, device=device)
