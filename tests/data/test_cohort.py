import numpy as np
import pytest

from renalnet.config import LoaderConfig
from renalnet.data.cohort import load_cohort
from renalnet.data.store import Store
from renalnet.errors import ConfigError

KB = 1 / 1024
PATIENT_KB = 20
"""A patient of 16×20×20 voxels of 3 bytes, and two slabs, in whole pages."""


def test_what_fits_is_shared_and_read_only(ball_store: Store) -> None:
    cohort = load_cohort(ball_store, LoaderConfig(memory_mb=6 * PATIENT_KB * KB))
    assert not cohort.train[0].image.flags.writeable and not cohort.validation[0].image.flags.writeable
    cohort.close()


def test_the_split_that_does_not_fit_is_each_runs_own(ball_store: Store) -> None:
    cohort = load_cohort(ball_store, LoaderConfig(memory_mb=5 * PATIENT_KB * KB))
    assert not cohort.train[0].image.flags.writeable and cohort.validation[0].image.flags.writeable
    assert cohort.validation[0] is not cohort.validation[0]  # held by nobody
    cohort.close()


def test_a_window_within_the_budget_is_streamed(ball_store: Store) -> None:
    with pytest.raises(ConfigError, match=r"loader.window = 1: .* more than the budget of 0.1 MB"):
        load_cohort(ball_store, LoaderConfig(memory_mb=3 * PATIENT_KB * KB, window=1))


def test_patients_are_those_of_the_store_clipped(ball_store: Store) -> None:
    cohort = load_cohort(ball_store)
    for split, patients in (("train", cohort.train), ("validation", cohort.validation)):
        assert len(patients) == len(ball_store.cases(split))
        for number, case in enumerate(ball_store.cases(split)):
            roi = ball_store.read(case)
            assert np.array_equal(patients[number].image, np.clip(roi.image, -200, 500))
            assert np.array_equal(patients[number].label, roi.label)
            assert patients.counts[number].tolist() == np.bincount(roi.label.ravel(), minlength=3).tolist()
    assert cohort.fingerprint == ball_store.fingerprint
    cohort.close()
