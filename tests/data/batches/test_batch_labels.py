"""Stores of three labels in training: shares of crops, the node's shared copy, and folds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.balls import ball_roi
from support.label_sets import CYST
from support.label_values import KIDNEY, TUMOR

from renalnet.config import KITS23, PatchConfig, PrepareConfig, label_set
from renalnet.data.batches.cohort import Cohort, load_cohort
from renalnet.data.batches.decoded_cases import StoreSource
from renalnet.data.batches.folds import Fold, in_fold
from renalnet.data.batches.node_copy import NodeCopy, copy_bytes
from renalnet.data.batches.node_folder import NodeFolder, private_home
from renalnet.data.batches.sampler import Sampler, ShuffleWindow
from renalnet.data.store.reader import Roi, Store, open_store
from renalnet.data.store.writer import write_store

ALL_CASES = ShuffleWindow(4, 128, 16, 0)
WITH_CYST = (1, 3)
"""Training cases that have a cyst."""
ONE_VOXEL = PatchConfig(shape=(1, 1, 1))
"""Crops of a single voxel: that near which the crop was to be centred."""


def with_cyst(roi: Roi) -> Roi:
    """Return the ROI with a cyst of 64 voxels at its first corner, which is background."""
    label = roi.label.copy()
    label[:4, :4, :4] = CYST
    return replace(roi, label=label)


@pytest.fixture(scope="module")
def cyst_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rois = [ball_roi(f"case_{number:05d}", "train", number) for number in range(4)]
    rois = [with_cyst(roi) if number in WITH_CYST else roi for number, roi in enumerate(rois)]
    rois += [with_cyst(ball_roi("case_00004", "validation", 4))]
    folder = tmp_path_factory.mktemp("cysts")
    write_store(folder, rois, PrepareConfig(labels=KITS23, spacing_mm=(2.0, 2.0, 2.0), localise="cut"))
    return open_store(folder)


@pytest.fixture(scope="module")
def cyst_cohort(cyst_store: Store) -> Iterator[Cohort]:
    cohort = load_cohort(cyst_store)
    yield cohort
    cohort.close()


def drawn_labels(cohort: Cohort, config: PatchConfig, count: int) -> list[int]:
    """Return the labels of the voxels at which crops of one voxel were drawn."""
    sampler = Sampler(cohort.train, config, ALL_CASES, cohort.labels)
    locations = [sampler.draw(crop, np.random.default_rng(crop)) for crop in range(count)]
    return [int(cohort.train[location.case].label[location.start]) for location in locations]


def test_crops_are_drawn_near_each_label_by_its_share(cyst_cohort: Cohort) -> None:
    drawn = np.bincount(drawn_labels(cyst_cohort, ONE_VOXEL, 4000), minlength=4) / 4000
    # 0.15 of the crops are anywhere, where 64 of 6400 voxels are cysts in two of the four cases.
    cases = [cyst_cohort.train[number] for number in range(4)]
    anywhere = np.mean([np.bincount(case.label.ravel(), minlength=4) / 6400 for case in cases], axis=0)
    shares = np.array([0.0, 0.35, 0.4, 0.1]) + 0.15 * anywhere
    assert shares[CYST] == pytest.approx(0.1 + 0.15 * 0.005)
    # Four standard deviations of the rarest and the commonest label.
    assert drawn[CYST] == pytest.approx(shares[CYST], abs=0.019)
    assert drawn[[KIDNEY, TUMOR]] == pytest.approx(shares[[KIDNEY, TUMOR]], abs=0.031)


def test_a_configured_share_replaces_that_of_the_label(cyst_cohort: Cohort) -> None:
    only_cysts = PatchConfig.model_validate({"shape": (1, 1, 1), "cyst_share": 1, "tumor_share": 0, "kidney_share": 0})
    assert set(drawn_labels(cyst_cohort, only_cysts, 50)) == {CYST}
    sampler = Sampler(cyst_cohort.train, only_cysts, ALL_CASES, KITS23)
    assert {sampler.draw(crop, np.random.default_rng(crop)).case for crop in range(50)} == set(WITH_CYST)


def test_the_cohort_has_the_labels_of_the_store(cyst_store: Store, cyst_cohort: Cohort) -> None:
    assert cyst_cohort.labels == cyst_store.labels == KITS23
    assert cyst_cohort.train.counts[:, CYST].tolist() == [0, 64, 0, 64]


def test_a_node_copy_has_the_locations_of_three_labels(cyst_store: Store, tmp_path: Path) -> None:
    home = private_home(tmp_path)
    assert home is not None
    shapes = cyst_store.index.shapes("train")
    source = StoreSource(cyst_store, tuple(cyst_store.cases("train")))
    ours = NodeCopy(NodeFolder(home / "copy"), source, shapes, -(-shapes[:, 0] // 8), 3)
    for number, cysts_by_slab in ((0, [0, 0]), (1, [64, 0])):
        locations, expected = ours.read(number).locations, source.read(number).locations
        np.testing.assert_array_equal(locations.counts, expected.counts)
        assert locations.counts[:, CYST].tolist() == cysts_by_slab
        for label in (KIDNEY, TUMOR, CYST):
            for copied, stored in zip(locations.anchors(label), expected.anchors(label), strict=True):
                np.testing.assert_array_equal(copied, stored)
    assert ours.read(1).locations.anchors(CYST)[0].max() == 3
    ours.close()


def test_a_slab_of_a_node_copy_has_room_for_the_anchors_of_each_label() -> None:
    # 8 bytes for the start, and for each label 8 for its count, 8 for its number of anchors and 96 for the anchors.
    shape = np.array([[1, 1, 1]])
    num_slabs = np.array([10000])
    sizes = [int(copy_bytes(shape, num_slabs, num_labels)[0]) for num_labels in (2, 3)]
    assert sizes == [pytest.approx(num_slabs[0] * (16 + 112 * labels), abs=4096) for labels in (2, 3)]


TUMOR_LAST = label_set(
    {
        "name": "tumor-last",
        "labels": [
            {"name": "kidney", "value": 1},
            {"name": "cyst", "value": 2, "lesion_of": "kidney"},
            {"name": "tumor", "value": 3, "lesion_of": "kidney"},
        ],
    }
)


def test_folds_hold_the_same_number_of_tumors_whatever_their_value(tmp_path: Path) -> None:
    rois = []
    for number in range(8):
        roi = ball_roi(f"case_{number:05d}", "train", number)
        # All cases have the label 2; only the even ones have the label 3.
        rois += [with_cyst(roi) if number % 2 == 0 else roi]
    config = PrepareConfig(labels=TUMOR_LAST, spacing_mm=(2.0, 2.0, 2.0), localise="cut")
    store = write_store(tmp_path, rois, config)
    for number in range(4):
        held_out = in_fold(store, Fold(number, 4, seed=0)).cases("validation")
        assert sorted(int(case[-1]) % 2 for case in held_out) == [0, 1]
