"""Evidence of masks, worked out by hand."""

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.prediction.mask_evidence import MaskEvidence, evidence_of

SHAPE = (20, 20, 20)
SPACING_MM = (2.0, 2.0, 2.0)


def test_measures_of_a_box_and_a_speck() -> None:
    vote = np.zeros(SHAPE, np.uint8)
    vote[2:12, 2:12, 2:8] = 1
    vote[5:8, 5:8, 5:8] = 2
    vote[15, 15, 15] = 1
    probability = np.zeros((3, *SHAPE), np.float32)
    probability[1], probability[2] = 0.6, 0.3
    found = evidence_of(probability, vote, SPACING_MM, KIDNEY_TUMOR)
    assert found.volume_ml == pytest.approx(601 * 0.008)
    assert found.certainty == pytest.approx(0.9)
    assert found.compactness == pytest.approx(600 / 601)
    assert found.filling == pytest.approx(601 / 14**3)


def test_an_empty_mask_is_no_kidney() -> None:
    found = evidence_of(np.ones((3, *SHAPE), np.float32), np.zeros(SHAPE, np.uint8), SPACING_MM, KIDNEY_TUMOR)
    assert found == MaskEvidence(0.0, 0.0, 0.0, 0.0)
    assert found.confidence == 0.0


@pytest.mark.parametrize(
    ("changes", "confidence"),
    [
        ({}, 1.0),
        ({"volume_ml": 10.0}, 0.0),
        ({"volume_ml": 22.5}, 0.5),
        ({"volume_ml": 1850.0}, 0.5),
        ({"certainty": 0.79}, 0.5),
        ({"certainty": 0.7}, 0.0),
        ({"compactness": 0.65}, 0.5),
        ({"filling": 0.14}, 0.5),
        ({"volume_ml": 22.5, "filling": 0.14}, 0.25),
    ],
)
def test_each_measure_is_a_factor(changes: dict[str, float], confidence: float) -> None:
    sound = {"volume_ml": 160.0, "certainty": 0.95, "compactness": 1.0, "filling": 0.5}
    assert MaskEvidence(**{**sound, **changes}).confidence == pytest.approx(confidence)
