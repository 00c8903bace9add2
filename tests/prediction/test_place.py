"""The prior of a kidney's place, by hand, and what it does to a vote."""

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.images.volume import Grid, Volume
from renalnet.inference.stitching import Stitched
from renalnet.prediction.mask_evidence import evidence_of
from renalnet.prediction.place import prior_of, with_prior

COARSE = Grid.axis_aligned((12, 12, 12), (6.0, 6.0, 6.0))


def place() -> Volume:
    """A cube of 30 mm between 15 and 45 mm from the first voxel's centre, along each axis."""
    mask = np.zeros(COARSE.shape, np.uint8)
    mask[3:8, 3:8, 3:8] = 1
    return Volume(mask, COARSE)


def test_log_odds_along_a_line_by_hand() -> None:
    """Voxels of 6 mm, so that the distances from the border at 15 mm are 9, 3, -3, ... mm from the left."""
    prior = prior_of(place(), COARSE)[5, 5]
    # Index 5 is 15 mm deep, index 4 is 9 mm deep, index 3 is 3 mm deep.
    assert prior[3:8].tolist() == pytest.approx([0.0, 2.0, 2.0, 2.0, 0.0])
    # Index 2 is 3 mm outside, index 1 is 9 mm outside (-12 · 3/9), index 0 is 15 mm outside.
    assert prior[:3].tolist() == pytest.approx([-12.0, -4.0, 0.0])


def test_beyond_the_coarse_grid_there_is_no_kidney() -> None:
    grid = Grid.axis_aligned((3, 3, 3), (2.0, 2.0, 2.0), (-60.0, 0.0, 0.0))
    np.testing.assert_allclose(prior_of(place(), grid), -12.0)


def test_a_vote_without_opinion_follows_the_place_and_a_sure_one_does_not_yield_inside() -> None:
    probability = np.zeros((3, 1, 1, 4), np.float32)
    probability[:, 0, 0, 0] = (0.3, 0.6, 0.1)  # far outside
    probability[:, 0, 0, 1] = (0.3, 0.6, 0.1)  # at the border
    probability[:, 0, 0, 2] = (0.7, 0.2, 0.1)  # deep inside, in doubt
    probability[:, 0, 0, 3] = (0.99, 0.005, 0.005)  # deep inside, as fat of the sinus
    vote = Stitched(probability.argmax(axis=0).astype(np.uint8), probability)
    prior = np.array([-12.0, 0.0, 2.0, 2.0], np.float32).reshape(1, 1, 4)
    found = with_prior(vote, prior, KIDNEY_TUMOR)
    assert found.labels[0, 0].tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(found.probability.sum(axis=0), 1, rtol=1e-6)
    odds = np.exp(2.0)
    assert found.probability[1, 0, 0, 2] == pytest.approx(0.2 * odds / (0.7 + 0.3 * odds))
    assert vote.labels[0, 0].tolist() == [1, 1, 0, 0]  # the vote itself is unchanged


def test_a_mask_far_from_the_place_is_no_evidence_of_a_kidney() -> None:
    """The networks are sure of a blob of 64 ml, but it lies where the localiser sees no kidney."""
    probability = np.zeros((3, 30, 30, 30), np.float32)
    probability[0] = 1
    probability[:, 5:25, 5:25, 5:25] = np.array([0.02, 0.96, 0.02], np.float32).reshape(3, 1, 1, 1)
    vote = Stitched(probability.argmax(axis=0).astype(np.uint8), probability)
    spacing_mm = (2.0, 2.0, 2.0)
    moved = with_prior(vote, np.full((30, 30, 30), -12.0, np.float32), KIDNEY_TUMOR)
    assert evidence_of(probability, vote.labels, spacing_mm, KIDNEY_TUMOR).confidence == pytest.approx(1)
    assert evidence_of(probability, moved.labels, spacing_mm, KIDNEY_TUMOR).confidence == 0
