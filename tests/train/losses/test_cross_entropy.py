from math import exp, log

import pytest
import torch

from renalnet.config import KITS23, LossConfig
from renalnet.train.losses.cross_entropy import cross_entropy_of, sum_of_weights, weighted_cross_entropy
from renalnet.types import IGNORE_LABEL

PAPER = (0.2, 1.0, 2.0)


def voxels(*rows):
    """Return logits (1, C, 1, 1, N) from one row of C per voxel."""
    return torch.tensor(rows).T.reshape(1, len(rows[0]), 1, 1, -1)


def labels(*values):
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, 1, -1)


def test_loss_by_hand():
    """One voxel is tumor with q = 1/3, the other is kidney with a logit larger by one."""
    loss = weighted_cross_entropy(voxels([0.0, 0.0, 0.0], [0.0, 1.0, 0.0]), labels(2, 1), PAPER)
    expected = (2.0 * log(3) + 1.0 * log(1 + 2 * exp(-1))) / 3.0
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(("given", "weight"), [({}, 2.0), ({"cyst": 5.0}, 5.0)])
def test_four_classes_by_hand(given, weight):
    """One voxel is cyst with q = 1/4, the other is kidney with a logit larger by one."""
    truth = labels(3, 1)
    loss = cross_entropy_of(LossConfig(**given), KITS23, truth)
    expected = (weight * log(4) + 1.0 * log(1 + 3 * exp(-1))) / (weight + 1.0)
    assert loss(voxels([0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]), truth).item() == pytest.approx(expected)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_class_alone_is_its_plain_cross_entropy(label):
    loss = weighted_cross_entropy(voxels([0.0, 0.0, 0.0]), labels(label), PAPER)
    assert loss.item() == pytest.approx(log(3))


def test_ignored_voxels_change_neither_loss_nor_gradient():
    logits = voxels([0.3, 0.1, -0.2], [5.0, -5.0, 0.0]).requires_grad_()
    loss = weighted_cross_entropy(logits, labels(1, IGNORE_LABEL), PAPER)
    loss.backward()
    alone = weighted_cross_entropy(voxels([0.3, 0.1, -0.2]), labels(1), PAPER)
    assert loss.item() == pytest.approx(alone.item())
    assert logits.grad[..., 1].abs().sum() == 0


def test_nothing_counted_is_zero_with_zero_gradient():
    logits = torch.randn(2, 3, 2, 2, 2, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.full((2, 2, 2, 2), IGNORE_LABEL, dtype=torch.uint8), PAPER)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_bfloat16_logits_are_summed_in_float32():
    logits = torch.zeros(1, 3, 20, 20, 20, dtype=torch.bfloat16)
    loss = weighted_cross_entropy(logits, torch.zeros(1, 20, 20, 20, dtype=torch.uint8), PAPER)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(log(3), rel=1e-5)


def test_label_types_and_memory_orders_agree():
    logits, truth = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    expected = weighted_cross_entropy(logits, truth, PAPER)
    last = logits.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(weighted_cross_entropy(last, truth.to(torch.uint8), PAPER), expected)


def test_weights_are_summed_over_the_voxels_that_count():
    assert sum_of_weights(labels(0, 0, 1, 2, IGNORE_LABEL), PAPER).item() == pytest.approx(2 * 0.2 + 1 + 2)
    assert 0 < sum_of_weights(labels(IGNORE_LABEL), PAPER).item() < 1e-30
