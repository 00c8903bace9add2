"""Properties of every loss in the table, and the weights of the outputs in deep supervision."""

import pytest
import torch

from renalnet.config import KIDNEY_TUMOR, LossConfig
from renalnet.config.losses import LOSSES
from renalnet.train.losses.supervision import loss_of, supervised_loss
from renalnet.types import IGNORE_LABEL


def labels_of(shape: tuple[int, ...]) -> torch.Tensor:
    """Return random labels with an ignored first slice."""
    labels = torch.randint(0, 3, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels[:, 0] = IGNORE_LABEL
    return labels


@pytest.mark.parametrize("name", LOSSES)
def test_coarser_outputs_count_half_of_the_one_before(name: str) -> None:
    outputs = [torch.randn(1, 3, 2, 2, 2) for _ in range(3)]
    labels = labels_of((1, 2, 2, 2))
    loss = loss_of(LossConfig(name=name), KIDNEY_TUMOR, labels)
    a, b, c = (loss(logits, labels) for logits in outputs)
    torch.testing.assert_close(supervised_loss(outputs, labels, loss), (4 * a + 2 * b + c) / 7)
    torch.testing.assert_close(supervised_loss(outputs[:1], labels, loss), a)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sizes", [[2, 1], [1, 1, 1]])
def test_losses_and_gradients_of_the_parts_add_up_to_the_batch(name: str, sizes: list[int]) -> None:
    outputs = [torch.randn(3, 3, 2, 4, 4, requires_grad=True) for _ in range(2)]
    labels = labels_of((3, 2, 4, 4))
    labels[1:][labels[1:] == 2] = 0  # the samples differ in the labels that they have
    loss = loss_of(LossConfig(name=name), KIDNEY_TUMOR, labels)
    whole = supervised_loss(outputs, labels, loss)
    expected = torch.autograd.grad(whole, outputs)
    parts = zip(*(tensor.split(sizes) for tensor in (labels, *outputs)), strict=True)
    total = torch.stack([supervised_loss(logits, part, loss) for part, *logits in parts]).sum()
    torch.testing.assert_close(total, whole)
    torch.testing.assert_close(torch.autograd.grad(total, outputs), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_voxels_have_no_gradient(name: str) -> None:
    logits, labels = torch.randn(2, 3, 2, 3, 4, requires_grad=True), labels_of((2, 2, 3, 4))
    loss_of(LossConfig(name=name), KIDNEY_TUMOR, labels)(logits, labels).backward()
    assert logits.grad is not None
    assert logits.grad[:, :, 0].abs().sum() == 0
    assert (logits.grad[:, :, 1].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_no_counted_voxel_gives_zero_with_zero_gradient(name: str) -> None:
    logits = torch.randn(2, 3, 2, 2, 2, requires_grad=True)
    labels = torch.full((2, 2, 2, 2), IGNORE_LABEL, dtype=torch.uint8)
    loss = loss_of(LossConfig(name=name), KIDNEY_TUMOR, labels)(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_not_finite_logits_give_a_loss_that_is_not_finite(name: str) -> None:
    logits, labels = torch.full((1, 3, 2, 2, 2), torch.nan), labels_of((1, 2, 2, 2))
    assert not loss_of(LossConfig(name=name), KIDNEY_TUMOR, labels)(logits, labels).isfinite()


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_logits_are_computed_in_float32(name: str) -> None:
    logits, labels = torch.randn(1, 3, 4, 4, 4).bfloat16(), labels_of((1, 4, 4, 4))
    loss = loss_of(LossConfig(name=name), KIDNEY_TUMOR, labels)
    assert loss(logits, labels).dtype == torch.float32
    torch.testing.assert_close(loss(logits, labels), loss(logits.float(), labels))
