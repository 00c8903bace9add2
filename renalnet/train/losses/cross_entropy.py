"""Weighted cross-entropy (paper, Eq. 1)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from renalnet.config import LabelSet, LossConfig
from renalnet.train.losses.supervision import PartLoss
from renalnet.types import IGNORE_LABEL


def cross_entropy_of(config: LossConfig, label_set: LabelSet, labels: Tensor) -> PartLoss:
    """Return the loss of the crops of a batch, normalised over the whole batch.

    Args:
        config: the weights.
        label_set: meaning of the labels.
        labels: of the whole batch, (B, D, H, W).
    """
    weights = config.weights(label_set)
    weight_sum = sum_of_weights(labels, weights)
    return lambda logits, part: weighted_cross_entropy(logits, part, weights, weight_sum)


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, weights: tuple[float, ...], weight_sum: Tensor | None = None
) -> Tensor:
    """Return −Σ w·log q over the counted voxels, divided by the sum of their weights (PyTorch's normalisation).

    Args:
        logits: (B, C, D, H, W) of C classes, any floating dtype; the loss is computed in float32.
        labels: (B, D, H, W), uint8 or another integer: 0 to C - 1, or `IGNORE_LABEL` for a voxel that does not count.
        weights: of each class, background first.
        weight_sum: divisor, `sum_of_weights` of the whole batch; None: that of `labels`.

    Returns:
        A scalar. Zero, with zero gradient, if no voxel counts.
    """
    # Autocast would leave the logits as they are; bfloat16 is too coarse to sum a logarithm in.
    table = _table(weights, logits.device)
    total = F.cross_entropy(logits.float(), labels.long(), table, ignore_index=IGNORE_LABEL, reduction="sum")
    return total / (sum_of_weights(labels, weights) if weight_sum is None else weight_sum)


def sum_of_weights(labels: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Return the sum of the weights of the counted voxels, a scalar on the labels' device; above zero even for none."""
    counts = torch.stack([(labels == label).sum() for label in range(len(weights))])
    return (_table(weights, labels.device) * counts).sum().clamp_min(torch.finfo(torch.float32).tiny)


@lru_cache(maxsize=8)
def _table(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Return the weights on the device. Copying them at each step would wait for the GPU."""
    # Autograd refuses tensors made in inference mode, and the cache would return one to a later training step.
    with torch.inference_mode(False):
        return torch.tensor(weights, dtype=torch.float32, device=device)
