"""Bundles of an ensemble: their files, and the vote of every member."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from renalnet.config import KITS23, InferenceConfig, Normalisation, StitchConfig, TrainConfig
from renalnet.errors import CheckpointError
from renalnet.inference.pipeline import load_bundle, load_ensemble, vote_roi
from renalnet.nets import build_net
from renalnet.nets.bundle import (
    MODEL_FILE,
    BundleConfig,
    copy_models,
    load_model,
    member_folders,
    model_digest,
    save_model,
)
from renalnet.types import LabelArray

STITCH = StitchConfig(tile=(8, 16, 16), stride=(4, 8, 8))
FINAL = InferenceConfig(stitch=STITCH)
NORMALISATION = Normalisation(-200, 500, 0.3)


def save_member(folder: Path, train: TrainConfig, seed: int, normalisation: Normalisation = NORMALISATION) -> str:
    """Write the bundle of an untrained network."""
    config = BundleConfig(train=train.model_copy(update={"seed": seed}), normalisation=normalisation)
    save_model(folder, dict(build_net(train.net, train.labels, seed).state_dict()), config)
    return str(folder)


@pytest.fixture
def members(tiny_train: TrainConfig, tmp_path: Path) -> list[str]:
    return [save_member(tmp_path / f"member-{seed}", tiny_train, seed) for seed in range(3)]


def labels_of(*folders: str) -> LabelArray:
    image = np.random.default_rng(2).integers(-200, 500, (10, 20, 20)).astype(np.int16)
    return vote_roi(load_ensemble(folders), image, STITCH).labels


@pytest.mark.slow
def test_a_bundle_of_members_votes_as_they_do(members: list[str], tmp_path: Path) -> None:
    copy_models(members, tmp_path / "best", FINAL)
    folders = member_folders(tmp_path / "best")
    assert folders == [f"{tmp_path}/best", f"{tmp_path}/best/members/2", f"{tmp_path}/best/members/3"]
    assert [model_digest(folder) for folder in folders] == [model_digest(folder) for folder in members]
    assert [load_model(folder)[1].train.seed for folder in folders] == [0, 1, 2]
    model = load_bundle(str(tmp_path / "best"))
    assert len(model.nets) == 3 and model.config.inference == FINAL
    joint = labels_of(*members)
    np.testing.assert_array_equal(labels_of(*folders), joint)
    assert all((labels_of(member) != joint).any() for member in members)


def test_a_bundle_without_members_is_one_network(members: list[str]) -> None:
    assert member_folders(members[1]) == [members[1]]
    assert len(load_bundle(members[1]).nets) == 1


def test_fewer_members_than_before_are_what_is_there(members: list[str], tmp_path: Path) -> None:
    copy_models(members, tmp_path / "best")
    copy_models(members[:1], tmp_path / "best")
    assert len(load_bundle(str(tmp_path / "best")).nets) == 1


def test_a_missing_member_is_refused(members: list[str], tmp_path: Path) -> None:
    copy_models(members, tmp_path / "best")
    shutil.rmtree(tmp_path / "best" / "members" / "2")
    with pytest.raises(CheckpointError, match=r"best/members/2 holds no model"):
        load_bundle(str(tmp_path / "best"))


def test_members_of_other_intensities_are_refused(members: list[str], tiny_train: TrainConfig, tmp_path: Path) -> None:
    foreign = save_member(tmp_path / "foreign", tiny_train, 7, Normalisation(-200, 500, 0.4))
    with pytest.raises(CheckpointError, match=r"foreign: expects .*mean=0\.4.* same store"):
        load_ensemble([*members, foreign])


def test_members_of_other_labels_are_refused(members: list[str], tiny_train: TrainConfig, tmp_path: Path) -> None:
    foreign = save_member(tmp_path / "foreign", TrainConfig(labels=KITS23, net=tiny_train.net), 7)
    rule = r"foreign: .*kits23 \(1 kidney, 2 tumor, 3 cyst\), .*member-0 .*kidney_tumor \(1 kidney, 2 tumor\)"
    with pytest.raises(CheckpointError, match=rule):
        load_ensemble([*members, foreign])
    copy_models([*members, foreign], tmp_path / "best")
    with pytest.raises(CheckpointError, match=r"best/members/4: .*kits23"):
        load_bundle(str(tmp_path / "best"))


def test_an_ensemble_of_another_label_set_has_its_classes(tiny_train: TrainConfig, tmp_path: Path) -> None:
    train = TrainConfig(labels=KITS23, net=tiny_train.net)
    model = load_ensemble([save_member(tmp_path / str(seed), train, seed) for seed in range(2)])
    image = np.random.default_rng(2).integers(-200, 500, (10, 20, 20)).astype(np.int16)
    vote = vote_roi(model, image, STITCH)
    assert (model.labels, len(vote.probability)) == (KITS23, 4)


def test_a_damaged_member_is_not_copied(members: list[str], tmp_path: Path) -> None:
    path = Path(members[1]) / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"member-1/model\.safetensors does not match its checksum"):
        copy_models(members, tmp_path / "best")
