import numpy as np
import pytest

from renalnet.errors import InputError
from renalnet.evaluation.overlap import Confusion, confusion, dice, volume_ml


def masks():
    """Return a truth of 6 voxels and a prediction of 4, of which 3 are shared, in a volume of 24."""
    truth = np.zeros((2, 3, 4), bool)
    pred = np.zeros((2, 3, 4), bool)
    truth[0, :2, :3] = True
    pred[0, 0, 1:4] = pred[0, 1, 0] = True
    return truth, pred


def test_counts_by_hand():
    assert confusion(*masks()) == Confusion(true_positive=3, false_positive=1, false_negative=3, true_negative=17)


def test_dice_by_hand():
    assert dice(*masks()) == pytest.approx(2 * 3 / (6 + 4))


def test_counts_sum_to_their_masks():
    truth, pred = masks()
    counts = confusion(truth, pred)
    assert (counts.num_truth, counts.num_pred) == (truth.sum(), pred.sum())


def test_empty_masks():
    some = masks()[0]
    none = np.zeros((2, 3, 4), bool)
    assert dice(none, none) == 1
    assert dice(some, none) == dice(none, some) == 0


def test_symmetric_perfect_and_disjoint():
    truth, pred = masks()
    assert dice(truth, pred) == dice(pred, truth)
    assert dice(truth, truth) == 1
    assert dice(truth, ~truth) == 0


def test_volume():
    assert volume_ml(2000, (2.0, 0.5, 0.5)) == pytest.approx(1.0)
    assert volume_ml(0, (2.0, 0.5, 0.5)) == 0


def test_shapes_must_match():
    with pytest.raises(InputError, match=r"shape \(2, 3, 4\) and prediction \(2, 3, 3\)"):
        dice(masks()[0], masks()[1][:, :, :3])
