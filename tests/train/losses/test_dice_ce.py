from math import log

import pytest
import torch

from renalnet.config import KIDNEY_TUMOR, KITS23, LossConfig
from renalnet.train.losses.cross_entropy import weighted_cross_entropy
from renalnet.train.losses.dice_ce import dice_ce_of, soft_dice_loss
from renalnet.types import IGNORE_LABEL


def logits_of(*samples: list[list[float]]) -> torch.Tensor:
    """Return logits (B, C, 1, 1, N) whose softmax gives the given probabilities, one row of C per voxel."""
    return torch.tensor(samples).log().movedim(2, 1)[:, :, None, None]


def labels_of(*samples: list[int]) -> torch.Tensor:
    """Return labels (B, 1, 1, N)."""
    return torch.tensor(samples, dtype=torch.uint8)[:, None, None]


VOXELS = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]


def test_dice_by_hand():
    """Kidney: Σq·t = 0.5, Σq = 1, Σt = 1, loss 1 − 1/2; tumor: 0.5 and 0.25, Σq = 1, Σt = 2, loss 1 − 1.5/3."""
    logits, labels = logits_of(VOXELS), labels_of([2, 1, 2])
    assert soft_dice_loss(logits, labels).tolist() == pytest.approx([(0.5 + 0.5) / 2])


def test_an_ignored_voxel_does_not_count():
    """Without the first voxel, kidney: Σq·t = 0.5, Σq = 0.75, Σt = 1; tumor: the same."""
    logits, labels = logits_of(VOXELS), labels_of([IGNORE_LABEL, 1, 2])
    assert soft_dice_loss(logits, labels).tolist() == pytest.approx([1 - 1 / 1.75])


def test_an_absent_label_is_left_out_of_the_mean_of_its_sample():
    """The tumor has no voxel. The kidney has Σq·t = 0.5, Σq = 1, Σt = 1."""
    assert soft_dice_loss(logits_of(VOXELS), labels_of([0, 1, 0])).tolist() == pytest.approx([0.5])


def test_four_classes_by_hand():
    """Kidney: Σq·t = 0.6, Σq = 0.9, Σt = 1; cyst: Σq·t = 0.2 + 0.6, Σq = 0.9, Σt = 2; the tumor is absent.

    The cross-entropy has weight 1 for the kidney and 2 for each cyst.
    """
    logits = logits_of([[0.4, 0.2, 0.2, 0.2], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.2, 0.6]])
    labels = labels_of([3, 1, 3])
    dice_loss = ((1 - 1.2 / 1.9) + (1 - 1.6 / 2.9)) / 2
    assert soft_dice_loss(logits, labels).tolist() == pytest.approx([dice_loss])
    cross_entropy = -(2 * log(0.2) + log(0.6) + 2 * log(0.6)) / 5
    found = dice_ce_of(LossConfig(name="dice_ce"), KITS23, labels)(logits, labels)
    assert found.item() == pytest.approx(dice_loss + cross_entropy)


def test_a_sample_without_foreground_is_zero_with_zero_gradient():
    logits = logits_of(VOXELS).requires_grad_()
    loss = soft_dice_loss(logits, labels_of([0, 0, 0]))
    loss.sum().backward()
    assert loss.tolist() == [0]
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_confident_right_answer_is_zero_and_a_wrong_one_is_one():
    right = 50 * torch.eye(3).T[None, :, None, None]
    assert soft_dice_loss(right, labels_of([0, 1, 2])).item() == pytest.approx(0)
    assert soft_dice_loss(right, labels_of([1, 2, 0])).item() == pytest.approx(1)


def test_the_loss_is_the_mean_over_samples_plus_the_cross_entropy():
    logits, labels = logits_of(VOXELS, VOXELS), labels_of([2, 1, 2], [0, 0, 0])
    config = LossConfig(name="dice_ce", tumor=3.0)
    expected = 0.5 / 2 + weighted_cross_entropy(logits, labels, config.weights(KIDNEY_TUMOR))
    torch.testing.assert_close(dice_ce_of(config, KIDNEY_TUMOR, labels)(logits, labels), expected)


def test_gradients_agree_with_differences():
    logits = torch.randn(2, 3, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = labels_of([0, 1, 2, 2, 1, IGNORE_LABEL], [0, 1, 0, 1, 0, 0]).reshape(2, 1, 2, 3)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_dice_loss(logits, labels).sum(), logits)
    direction, length = torch.randn_like(logits), 1e-2
    ahead, behind = (soft_dice_loss(logits + sign * length * direction, labels).sum() for sign in (1, -1))
    slope = (ahead - behind) / (2 * length)
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-2, abs=1e-4)
