"""Tests of the loader of batches."""

import threading

import numpy as np
import pytest
import torch
from support.label_values import KIDNEY, TUMOR

from renalnet.config import LoaderConfig, OptimConfig, PatchConfig, TrainConfig
from renalnet.data.batches.cohort import Cohort
from renalnet.data.batches.crop import CropLocation, crop_into
from renalnet.data.batches.decoded_cases import DecodedCases, StoreSource
from renalnet.data.batches.loader import Batch, BatchLoader
from renalnet.data.store.reader import Store
from renalnet.types import IGNORE_LABEL

STREAMED = LoaderConfig(window=2, visit=3)
ANYWHERE = {"tumor_share": 0.0, "kidney_share": 0.0}


def config(seed: int = 0, how: LoaderConfig | None = None, **changes: object) -> TrainConfig:
    patch = PatchConfig(shape=(8, 12, 12)).model_copy(update=changes)
    return TrainConfig(optim=OptimConfig(batch_size=3), patch=patch, loader=how or LoaderConfig(), seed=seed)


def loader(cohort: Cohort, seed: int = 0, how: LoaderConfig | None = None, **changes: object) -> BatchLoader:
    return BatchLoader(cohort.train, config(seed, how, **changes), fill_hu=-200)


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.image, other.image) and torch.equal(one.label, other.label)


def test_batch_depends_on_seed_and_step_alone(ball_cohort: Cohort) -> None:
    first = loader(ball_cohort)
    again = loader(ball_cohort)
    again.batch(9)
    assert same(first.batch(5), again.batch(5))
    assert not same(first.batch(5), first.batch(6))
    assert not same(first.batch(5), loader(ball_cohort, seed=1).batch(5))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("how", [LoaderConfig(), STREAMED])
def test_threads_change_nothing(ball_cohort: Cohort, workers: int, how: LoaderConfig) -> None:
    alone = loader(ball_cohort, how=how)
    ahead = loader(ball_cohort, how=how.model_copy(update={"workers": workers}))
    seen = [(batch.step, same(batch, alone.batch(batch.step))) for batch in ahead.batches(2, 7)]
    assert seen == [(step, True) for step in range(2, 9)]


def test_streaming_gives_the_batches_of_the_shared_copy(ball_store: Store, ball_cohort: Cohort) -> None:
    source = StoreSource(ball_store, tuple(ball_store.cases("train")))
    streamed = DecodedCases(source, ball_cohort.train.shapes, ball_cohort.train.counts, keep_all=False)
    shared = loader(ball_cohort, how=STREAMED)
    apart = BatchLoader(streamed, config(how=STREAMED), fill_hu=-200)
    assert all(same(batch, shared.batch(batch.step)) for batch in apart.batches(0, 20))


def test_a_batch_is_valid_until_the_next_request(ball_cohort: Cohort) -> None:
    source = loader(ball_cohort, how=LoaderConfig(workers=2))
    batches = source.batches(0, 6)
    first = next(batches)
    assert same(first, source.batch(0))
    assert len({next(batches).image.data_ptr() for _ in range(5)}) <= 3


def test_a_run_that_stops_early_leaves_no_thread(ball_cohort: Cohort) -> None:
    batches = loader(ball_cohort, how=LoaderConfig(workers=2)).batches(0, 100)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batch")]


def test_waiting_is_counted(ball_cohort: Cohort) -> None:
    source = loader(ball_cohort)
    assert source.waited_s == 0.0
    list(source.batches(0, 2))
    assert source.waited_s > 0


@pytest.mark.parametrize(("share", "label"), [("tumor_share", TUMOR), ("kidney_share", KIDNEY)])
def test_focused_crops_hold_their_label(ball_cohort: Cohort, share: str, label: int) -> None:
    focused = loader(ball_cohort, **(ANYWHERE | {share: 1.0}))
    assert all((crop == label).any() for step in range(10) for crop in focused.batch(step).label)


def test_flips_reverse_image_and_label_alike(ball_cohort: Cohort) -> None:
    plain = loader(ball_cohort, flip=False, shape=(16, 20, 20), **ANYWHERE).batch(0)
    rois = [torch.tensor(ball_cohort.train[number].image) for number in range(4)]
    assert all(any(torch.equal(image, roi) for roi in rois) for image in plain.image)
    flipped = loader(ball_cohort, shape=(16, 20, 20), **ANYWHERE)
    reversals = set()
    for step in range(6):
        batch = flipped.batch(step)
        for image, label in zip(batch.image, batch.label, strict=True):
            assert image[label == KIDNEY].float().mean() > 150
            assert image[label == TUMOR].float().mean() < 100
            reversals |= {axes for axes in AXES for roi in rois if torch.equal(image.flip(axes), roi)}
    assert len(reversals) >= 6


AXES = [tuple(axis for axis in range(3) if bits >> axis & 1) for bits in range(8)]


def test_crops_are_clipped_and_padded(ball_cohort: Cohort) -> None:
    batch = loader(ball_cohort, shape=(20, 24, 24)).batch(0)
    outside = batch.label == IGNORE_LABEL
    assert int(outside.sum()) == 3 * (20 * 24 * 24 - 16 * 20 * 20)
    assert batch.image[outside].unique().tolist() == [-200]
    assert int(batch.image.min()) >= -200 and int(batch.image.max()) <= 500


def test_padding_is_marked() -> None:
    image = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    label = np.ones((2, 2, 2), np.uint8)
    pixels = np.zeros((4, 2, 2), np.int16)
    classes = np.zeros((4, 2, 2), np.uint8)
    location = CropLocation(0, (-1, 0, 0), (4, 2, 2))
    crop_into(pixels, image, location, -200)
    crop_into(classes, label, location, IGNORE_LABEL)
    assert pixels[:, 0, 0].tolist() == [-200, 0, 4, -200]
    assert classes[:, 0, 0].tolist() == [IGNORE_LABEL, 1, 1, IGNORE_LABEL]
