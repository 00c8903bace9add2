"""The library's dense CRF over a whole ROI, which the benchmark of post-processing is compared with."""

import numpy as np

from renalnet.config import CrfConfig
from renalnet.inference.stitching import Stitched
from study.bench.networks.post_processing import _whole_crf

SHAPE = (6, 8, 10)


def test_without_weights_it_is_the_vote() -> None:
    generator = np.random.default_rng(0)
    probability = generator.dirichlet(np.ones(3), SHAPE).transpose(3, 0, 1, 2).astype(np.float32)
    vote = Stitched(probability.argmax(axis=0).astype(np.uint8), probability)
    image = generator.integers(-100, 300, SHAPE).astype(np.int16)
    unchanged = CrfConfig(smooth_weight=0.0, bilateral_weight=0.0)
    assert np.array_equal(_whole_crf(vote, image, unchanged), vote.labels)
    assert not np.array_equal(_whole_crf(vote, image, CrfConfig(smooth_weight=5.0)), vote.labels)
