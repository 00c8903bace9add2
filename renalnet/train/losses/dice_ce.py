"""The sum of soft Dice loss and weighted cross-entropy, the usual loss in segmentation of organs.

The Dice loss is that of V-Net (Milletari et al., 3DV 2016) with linear terms in the denominator, as in nnU-Net (Isensee
et al., Nature Methods 2021). Unlike nnU-Net's default, Dice is taken per sample and not over the batch: the losses of a
batch's parts then add up to the whole's, so that a batch may pass through the network in parts.
"""

import torch
from torch import Tensor

from renalnet.config import LabelSet, LossConfig
from renalnet.train.losses.cross_entropy import cross_entropy_of
from renalnet.train.losses.supervision import PartLoss
from renalnet.types import IGNORE_LABEL


def dice_ce_of(config: LossConfig, label_set: LabelSet, labels: Tensor) -> PartLoss:
    """Return the loss of the crops of a batch: the mean soft Dice loss of its samples, plus the cross-entropy.

    Args:
        config: the weights of the cross-entropy; the Dice loss takes all labels alike.
        label_set: meaning of the labels.
        labels: of the whole batch, (B, D, H, W).
    """
    cross_entropy = cross_entropy_of(config, label_set, labels)
    num_samples = len(labels)
    return lambda logits, part: cross_entropy(logits, part) + soft_dice_loss(logits, part).sum() / num_samples


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 − Dice of each sample: the mean of 1 − 2·Σq·t / (Σq + Σt) over its foreground labels.

    A label without a voxel in a sample is left out of that sample's mean, because its soft Dice would be zero for every
    prediction; the cross-entropy still penalises voxels that are predicted as it. The loss of a sample without any
    foreground is zero, with zero gradient.

    Args:
        logits: (B, C, D, H, W) of C classes, any floating dtype; the loss is computed in float32.
        labels: (B, D, H, W), uint8 or another integer: 0 to C - 1, or `IGNORE_LABEL` for a voxel that does not count.

    Returns:
        (B,), each 0-1.
    """
    truth = torch.stack([labels == label for label in range(1, logits.shape[1])], dim=1).float()
    counted = (labels != IGNORE_LABEL).unsqueeze(1)
    probabilities = logits.float().softmax(dim=1)[:, 1:] * counted
    voxels = truth.sum(dim=(2, 3, 4))
    is_present = voxels > 0
    overlap = (probabilities * truth).sum(dim=(2, 3, 4))
    # The denominator of an absent label may be zero; its quotient is dropped below, but must be finite.
    total = (probabilities.sum(dim=(2, 3, 4)) + voxels).where(is_present, 1.0)
    missed = (1 - 2 * overlap / total) * is_present
    # Without any foreground, 0 / 1 instead of 0 / 0, which would be NaN in loss and gradient.
    return missed.sum(dim=1) / is_present.sum(dim=1).clamp_min(1)
