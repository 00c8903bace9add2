import numpy as np
import pytest

from renalnet.config import PatchConfig
from renalnet.data.cohort import Cohort
from renalnet.data.loader import PatchLoader, Sampler
from renalnet.data.patch import PatchLocation, crop
from renalnet.errors import StoreError
from renalnet.types import IGNORE_LABEL, KIDNEY, TUMOR


def loader(cohort: Cohort, seed: int = 0, **changes: object) -> PatchLoader:
    config = PatchConfig(shape=(8, 12, 12)).model_copy(update=changes)
    return PatchLoader(cohort.train, config, batch_size=3, fill_hu=-200, seed=seed)


def test_batch_depends_on_seed_and_step_alone(ball_cohort: Cohort) -> None:
    first, again = loader(ball_cohort), loader(ball_cohort)
    again.batch(9)
    assert np.array_equal(first.batch(5).image, again.batch(5).image)
    assert not np.array_equal(first.batch(5).image, first.batch(6).image)
    assert not np.array_equal(first.batch(5).image, loader(ball_cohort, seed=1).batch(5).image)


def test_prefetching_keeps_the_order(ball_cohort: Cohort) -> None:
    source = loader(ball_cohort)
    streamed = [batch.image for batch in source.batches(2, 4)]
    assert len(streamed) == 4
    assert all(np.array_equal(image, source.batch(step).image) for step, image in enumerate(streamed, start=2))


@pytest.mark.parametrize(("share", "label"), [("tumor_share", TUMOR), ("kidney_share", KIDNEY)])
def test_focused_crops_hold_their_label(ball_cohort: Cohort, share: str, label: int) -> None:
    shares = {"tumor_share": 0.0, "kidney_share": 0.0} | {share: 1.0}
    batches = [loader(ball_cohort, **shares).batch(step) for step in range(10)]
    assert all((crop == label).any() for batch in batches for crop in batch.label)


def test_crops_lie_inside_a_larger_roi(ball_cohort: Cohort) -> None:
    sampler, generator = Sampler(ball_cohort.train, PatchConfig(shape=(8, 12, 12))), np.random.default_rng(0)
    for _ in range(50):
        location = sampler.draw(generator)
        assert all(start >= 0 for start in location.start)
        ends = [start + size for start, size in zip(location.start, location.shape, strict=True)]
        assert all(end <= length for end, length in zip(ends, (16, 20, 20), strict=True))


def test_flips_reverse_image_and_label_alike(ball_cohort: Cohort) -> None:
    shares = {"tumor_share": 0.0, "kidney_share": 0.0}
    plain = loader(ball_cohort, flip=False, shape=(16, 20, 20), **shares).batch(0)
    rois = [(roi.image, roi.label) for roi in ball_cohort.train]
    assert any(np.array_equal(plain.image[0], image) for image, _ in rois)
    flipped = loader(ball_cohort, shape=(16, 20, 20), **shares)
    for image, label in zip(*(getattr(flipped.batch(1), name) for name in ("image", "label")), strict=True):
        assert image[label == KIDNEY].mean() > 150
        assert image[label == TUMOR].mean() < 100


def test_padding_is_marked() -> None:
    image, label = np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.ones((2, 2, 2), np.uint8)
    pixels, classes = crop(image, label, PatchLocation(0, (-1, 0, 0), (4, 2, 2)), fill_hu=-200)
    assert pixels[:, 0, 0].tolist() == [-200, 0, 4, -200]
    assert classes[:, 0, 0].tolist() == [IGNORE_LABEL, 1, 1, IGNORE_LABEL]


def test_no_training_patient() -> None:
    with pytest.raises(StoreError, match="no training ROI"):
        Sampler([], PatchConfig())
