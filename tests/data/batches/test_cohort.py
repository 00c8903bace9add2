"""Tests of the cohort of a training run: shared, streamed, and in folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.balls import ball_roi

from renalnet.config import LoaderConfig, PrepareConfig
from renalnet.data.batches.cohort import copy_name, load_cohort
from renalnet.data.batches.folds import Fold, in_fold
from renalnet.data.batches.node_copy import find_room
from renalnet.data.store.reader import Store
from renalnet.data.store.writer import write_store
from renalnet.errors import ConfigError
from renalnet.types import Split

KB = 1 / 1024
CASE_KB = 20
"""Size of a case of 16×20×20 voxels of 3 bytes, and two slabs, in whole pages."""


def test_splits_that_fit_are_shared_and_read_only(ball_store: Store) -> None:
    cohort = load_cohort(ball_store, LoaderConfig(memory_mb=6 * CASE_KB * KB))
    assert not cohort.train[0].image.flags.writeable and not cohort.validation[0].image.flags.writeable
    cohort.close()


def test_each_process_decodes_a_split_that_does_not_fit(ball_store: Store) -> None:
    cohort = load_cohort(ball_store, LoaderConfig(memory_mb=5 * CASE_KB * KB))
    assert not cohort.train[0].image.flags.writeable and cohort.validation[0].image.flags.writeable
    assert cohort.validation[0] is not cohort.validation[0]  # kept by no one, so decoded twice
    cohort.close()


def test_a_window_within_the_budget_is_streamed(ball_store: Store) -> None:
    with pytest.raises(ConfigError, match=r"loader.window = 1: .* more than the budget of 0.1 MB"):
        load_cohort(ball_store, LoaderConfig(memory_mb=3 * CASE_KB * KB, window=1))


def test_validation_is_shared_where_it_fits_beside_a_window(ball_store: Store, tmp_path: Path) -> None:
    splits: list[Split] = ["train"] * 8 + ["validation"] * 2
    ball = ball_store.read(ball_store.cases("train")[0])
    rois = [replace(ball, case=f"case_{number:05d}", split=split) for number, split in enumerate(splits)]
    store = write_store(tmp_path / "store", rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut"))
    # One case in the window, four that enter next, and two validation cases.
    for num_cases, is_shared in ((7, True), (6, False)):
        cohort = load_cohort(store, LoaderConfig(memory_mb=num_cases * CASE_KB * KB, window=1))
        assert cohort.train[0].image.flags.writeable
        assert cohort.validation[0].image.flags.writeable != is_shared
        cohort.close()


def test_cases_are_those_of_the_store_clipped(ball_store: Store) -> None:
    cohort = load_cohort(ball_store)
    for split, decoded in (("train", cohort.train), ("validation", cohort.validation)):
        assert len(decoded) == len(ball_store.cases(split))
        for number, case in enumerate(ball_store.cases(split)):
            roi = ball_store.read(case)
            assert np.array_equal(decoded[number].image, np.clip(roi.image, -200, 500))
            assert np.array_equal(decoded[number].label, roi.label)
            assert decoded.counts[number].tolist() == np.bincount(roi.label.ravel(), minlength=3).tolist()
    assert cohort.fingerprint == ball_store.fingerprint
    cohort.close()


@pytest.fixture
def mixed_store(ball_store: Store, tmp_path: Path) -> Store:
    """A store of five training cases and two validation cases, which all differ, and a test case."""
    splits: list[Split] = ["train", "validation", "train", "test", "train", "validation", "train", "train"]
    rois = [ball_roi(f"case_{number:05d}", split, number) for number, split in enumerate(splits)]
    return write_store(tmp_path / "store", rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut"))


@pytest.mark.parametrize("budget", [7, 6], ids=["shared", "streamed"])
def test_a_fold_has_its_cases_whatever_the_memory(mixed_store: Store, budget: int) -> None:
    fold = Fold(1, 3, seed=4)
    cohort = load_cohort(mixed_store, LoaderConfig(memory_mb=budget * CASE_KB * KB, window=1), fold)
    for split, decoded in (("train", cohort.train), ("validation", cohort.validation)):
        cases = in_fold(mixed_store, fold).cases(split)
        assert len(cases) == len(decoded)
        for number, case in enumerate(cases):
            roi = mixed_store.read(case)
            assert np.array_equal(decoded[number].image, np.clip(roi.image, -200, 500))
            assert decoded.counts[number].tolist() == np.bincount(roi.label.ravel(), minlength=3).tolist()
            assert decoded.shapes[number].tolist() == list(roi.image.shape)
            assert decoded[number].image.flags.writeable == (budget == 6)
    cohort.close()


def test_folds_and_the_whole_share_the_nodes_copies(mixed_store: Store) -> None:
    whole = load_cohort(mixed_store)
    folds = [load_cohort(mixed_store, fold=Fold(number, 3, seed=4)) for number in range(3)]
    for cohort in (whole, *folds):
        _ = [cohort.train[number] for number in range(len(cohort.train))]
    place = find_room(copy_name(mixed_store, "train"), 1)
    assert place is not None
    copies = [path.name for path in place.parent.glob(f"{mixed_store.fingerprint}-*") if path.is_dir()]
    assert sorted(copies) == sorted(copy_name(mixed_store, split) for split in ("train", "validation"))
    for cohort in (whole, *folds):
        cohort.close()
    assert not list(place.parent.glob(f"{mixed_store.fingerprint}-*"))


def test_each_fold_is_another_run(mixed_store: Store) -> None:
    folds = [None, Fold(0, 3, 4), Fold(1, 3, 4), Fold(0, 2, 4), Fold(0, 3, 5)]
    cohorts = [load_cohort(mixed_store, fold=fold) for fold in folds]
    assert len({cohort.fingerprint for cohort in cohorts}) == len(folds)
    for cohort in cohorts:
        cohort.close()
