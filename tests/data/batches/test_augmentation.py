"""Tests of the augmentation of crops."""

import numpy as np
import pytest
import torch

from renalnet.config import AugmentConfig, Chance, Normalisation
from renalnet.data.batches.augmentation import Augmentation, Augmenter, Blur, Contrast, Gamma, Noise, Placement, Shift
from renalnet.types import IGNORE_LABEL

SCALE = Normalisation(-200, 500, 0.25)
ALWAYS = {name: chance.model_copy(update={"probability": 1.0}) for name, chance in AugmentConfig()}
SPATIAL = ("degrees", "zoom")


def crops(count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((count, 6, 9, 9), generator=generator) - SCALE.mean
    return image, torch.randint(0, 3, image.shape, generator=generator, dtype=torch.uint8)


def test_intensities_by_hand() -> None:
    image = torch.tensor([[[0.0, 0.25, 0.5, 1.0]]])
    assert Shift(0.1).apply(image).flatten().tolist() == pytest.approx([0.1, 0.35, 0.6, 1.1])
    assert Contrast(2.0).apply(image).flatten().tolist() == pytest.approx([-0.5, 0.0, 0.5, 1.5])
    assert Gamma(2.0).apply(image).flatten().tolist() == pytest.approx([0.0, 0.0625, 0.25, 1.0])


def test_blur_spreads_a_voxel_evenly_and_loses_nothing() -> None:
    image = torch.zeros(9, 9, 9)
    image[4, 4, 4] = 1
    blurred = Blur(0.8).apply(image)
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(blurred, blurred.permute(2, 0, 1)) and torch.allclose(blurred, blurred.flip(0, 1, 2))
    neighbour = float(blurred[4, 4, 5] / blurred[4, 4, 4])
    assert neighbour == pytest.approx(np.exp(-1 / (2 * 0.8**2)), rel=1e-4)
    assert torch.allclose(Blur(1.0).apply(torch.full((3, 4, 5), 0.7)), torch.full((3, 4, 5), 0.7))


def test_noise_repeats_and_has_its_deviation() -> None:
    image = torch.zeros(20, 30, 30)
    noisy = Noise(0.02, seed=7).apply(image)
    assert torch.equal(noisy, Noise(0.02, seed=7).apply(image))
    assert not torch.equal(noisy, Noise(0.02, seed=8).apply(image))
    assert float(noisy.std()) == pytest.approx(0.02, rel=0.02)


def test_a_quarter_turn_goes_from_y_towards_x() -> None:
    image, label = crops()
    turned, classes = Placement(degrees=90.0).apply(image[0], label[0])
    assert np.allclose(turned, np.rot90(image[0].numpy(), axes=(1, 2)), atol=1e-5)
    assert np.array_equal(classes, np.rot90(label[0].numpy(), axes=(1, 2)))


def test_a_turn_keeps_pixels_square_on_a_wide_crop() -> None:
    image = torch.zeros(1, 11, 31)
    image[0, 5, 19] = 1  # four pixels along x from the middle
    turned, _ = Placement(degrees=90.0).apply(image, torch.zeros(1, 11, 31, dtype=torch.uint8))
    assert np.argwhere(turned.numpy() > 0.5).tolist() == [[0, 1, 15]]


def test_zoom_doubles_what_is_shown() -> None:
    label = torch.zeros(8, 8, 8, dtype=torch.uint8)
    label[3:5, 3:5, 3:5] = 2
    _, larger = Placement(zoom=2.0).apply(label.float(), label)
    assert int((larger == 2).sum()) == 4**3
    assert bool((larger[2:6, 2:6, 2:6] == 2).all())


def test_outside_is_marked_and_dark() -> None:
    image = torch.full((4, 8, 8), 0.9)
    label = torch.ones((4, 8, 8), dtype=torch.uint8)
    smaller, classes = Placement(zoom=0.5).apply(image, label)
    assert int((classes == IGNORE_LABEL).sum()) == 4 * 8 * 8 - 2 * 4 * 4
    assert classes.unique().tolist() == [1, IGNORE_LABEL]
    assert float(smaller[0].max()) == 0.0


def test_padding_stays_padding_under_a_turn() -> None:
    label = torch.full((2, 6, 6), IGNORE_LABEL, dtype=torch.uint8)
    label[:, 2:4, 2:4] = 1
    _, classes = Placement(degrees=20.0).apply(torch.zeros(2, 6, 6), label)
    assert classes.unique().tolist() == [1, IGNORE_LABEL]


def test_intensities_end_within_the_networks_range() -> None:
    image, label = crops()
    bright, same_label = Augmentation(None, (Shift(5.0),)).apply(image[0], label[0], SCALE)
    assert bright.unique().tolist() == [0.75]
    assert torch.equal(same_label, label[0])


def test_off_by_default_and_then_nothing_is_touched() -> None:
    augmenter = Augmenter(AugmentConfig(), SCALE, seed=0)
    image, label = crops()
    assert augmenter.is_off
    assert augmenter.draw(3) == Augmentation(None, ())
    assert augmenter.draw(3).apply(image[0], label[0], SCALE)[0].data_ptr() == image[0].data_ptr()


def test_a_crop_is_changed_alike_wherever_it_lies_in_a_batch() -> None:
    augmenter = Augmenter(AugmentConfig(**ALWAYS), SCALE, seed=5)
    image, label = crops(4)
    whole, classes = augmenter.apply(8, image, label)
    part, part_classes = augmenter.apply(10, image[2:], label[2:])
    assert torch.equal(whole[2:], part) and torch.equal(classes[2:], part_classes)
    other, _ = Augmenter(AugmentConfig(**ALWAYS), SCALE, seed=6).apply(8, image, label)
    assert not torch.equal(whole, other) and not torch.equal(whole[0], image[0])


@pytest.mark.parametrize("name", list(ALWAYS))
def test_an_option_alone_changes_every_crop_or_the_share_it_is_given(name: str) -> None:
    image, label = crops()
    for probability, least, most in ((1.0, 40, 40), (0.5, 10, 30)):
        config = AugmentConfig(**{name: ALWAYS[name].model_copy(update={"probability": probability})})
        augmenter = Augmenter(config, SCALE, seed=0)
        changed = [not torch.equal(augmenter.apply(crop, image, label)[0], image) for crop in range(40)]
        assert least <= sum(changed) <= most


def test_values_are_drawn_from_the_range_whatever_else_is_on() -> None:
    shift = {"shift_hu": Chance(probability=1.0, range=(70.0, 140.0))}
    alone = AugmentConfig(**shift)
    together = AugmentConfig(**(ALWAYS | shift))
    for crop in range(20):
        (only,) = Augmenter(alone, SCALE, seed=1).draw(crop).intensities
        assert isinstance(only, Shift) and 0.1 <= only.amount <= 0.2
        assert only in Augmenter(together, SCALE, seed=1).draw(crop).intensities
