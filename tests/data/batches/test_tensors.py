"""Tests of the conversion of batches to tensors."""

import numpy as np
import pytest
import torch

from renalnet.config import AugmentConfig, OptimConfig, PatchConfig, TrainConfig
from renalnet.data.batches.augmentation import Augmenter
from renalnet.data.batches.cohort import Cohort
from renalnet.data.batches.loader import Batch, BatchLoader
from renalnet.data.batches.tensors import TensorMaker
from renalnet.runtime.device import Device

CPU = Device(torch.device("cpu"), use_bfloat16=False)


def batch(cohort: Cohort, step: int = 0) -> Batch:
    patch = PatchConfig(
        shape=(20, 12, 12)
    )  # 20 slices exceed the ROI, which is padded, and the chunk of the conversion
    config = TrainConfig(optim=OptimConfig(batch_size=2), patch=patch)
    return BatchLoader(cohort.train, config, fill_hu=-200).batch(step)


def maker(cohort: Cohort, device: Device = CPU, **options: object) -> TensorMaker:
    return TensorMaker(cohort.normalisation, device, Augmenter(AugmentConfig(**options), cohort.normalisation, seed=0))


def test_images_are_normalised_and_labels_untouched(ball_cohort: Cohort) -> None:
    raw = batch(ball_cohort)
    image, label = maker(ball_cohort)(raw)
    assert image.shape == (2, 1, 20, 12, 12) and image.dtype == torch.float32
    assert np.allclose(image[:, 0], ball_cohort.normalisation.apply(raw.image.numpy()), atol=1e-6)
    assert torch.equal(label, raw.label)


def test_the_networks_layout_costs_no_copy(ball_cohort: Cohort) -> None:
    convert = maker(ball_cohort)
    places = {convert(batch(ball_cohort, step))[0].data_ptr() for step in range(3)}
    assert len(places) == 1
    assert convert(batch(ball_cohort))[0].is_contiguous(memory_format=torch.channels_last_3d)


def test_crops_are_augmented_by_their_number(ball_cohort: Cohort) -> None:
    noise = {"noise_hu": {"probability": 1.0, "range": (10.0, 20.0)}}
    noisy = maker(ball_cohort, **noise)
    plain = batch(ball_cohort, 0)
    first = batch(ball_cohort, 3)
    other = batch(ball_cohort, 4)
    assert not torch.equal(noisy(first)[0], maker(ball_cohort)(first)[0])
    again = maker(ball_cohort, **noise)(other)[0].clone()
    noisy(plain)
    assert torch.equal(noisy(other)[0], again)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_makes_the_same_tensors(ball_cohort: Cohort) -> None:
    raw = batch(ball_cohort)
    image, label = maker(ball_cohort, Device(torch.device("cuda"), use_bfloat16=True))(raw)
    assert torch.allclose(image.cpu(), maker(ball_cohort)(raw)[0], atol=1e-6)
    assert torch.equal(label.cpu(), raw.label) and image.is_cuda
