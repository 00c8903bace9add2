"""What a loss is, and how it supervises the outputs of a network."""

from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import TypeAlias

import torch
from torch import Tensor

from renalnet.config import LabelSet, LossConfig
from renalnet.config.losses import LOSSES

PartLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, C, D, H, W) and labels (B, D, H, W) of some crops of a batch to their share of its loss, a scalar.

The shares of all crops add up to the loss of the batch, however it is divided.
"""
BatchLoss: TypeAlias = Callable[[LossConfig, LabelSet, Tensor], PartLoss]
"""The configuration, the label set and the labels of a whole batch to a `PartLoss`.

A loss takes its normalisation from the labels of the whole batch.
"""


def loss_of(config: LossConfig, label_set: LabelSet, labels: Tensor) -> PartLoss:
    """Return the configured loss for the crops of a batch with these `labels` (B, D, H, W)."""
    batch_loss: BatchLoss = resolve_name(LOSSES[config.name])
    return batch_loss(config, label_set, labels)


def supervised_loss(outputs: Sequence[Tensor], labels: Tensor, loss: PartLoss) -> Tensor:
    """Return the loss of a network's `training_logits`.

    With deep supervision, each coarser output counts half of the one before it; the shares add up to one
    (reconstruction).
    """
    shares = [0.5**level for level in range(len(outputs))]
    losses = [share * loss(logits, labels) for share, logits in zip(shares, outputs, strict=True)]
    return torch.stack(losses).sum() / sum(shares)
