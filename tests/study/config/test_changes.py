"""The changes of a configuration with which a study may be resumed, and those that are refused."""

import pytest

from renalnet.config import override
from study.config.changes import changes, refused_changes
from study.config.presets import study_preset
from study.config.sections import StudyConfig


def change(*assignments: str) -> tuple[dict[str, list[object]], list[str]]:
    before = study_preset("quick")
    after = override(before, assignments)
    values = before.model_dump(mode="json")
    return changes(values, after.model_dump(mode="json")), refused_changes(values, after)


def test_no_change() -> None:
    assert change() == ({}, [])


@pytest.mark.parametrize(
    "assignment",
    [
        "search.num_trials=30",
        "search.kept_models=9",
        "resources.gpus_per_trial=0.5",
        "train.epochs=12",
        "space.tumor_weight=[1.5, 3]",
        "space.kernel_sets=[[1, 3]]",
        "final.num_finalists=2",
        "final.crf.iterations=0",
        "train.loader.memory_mb=10",
    ],
)
def test_what_may_change(assignment: str) -> None:
    changed, refused = change(assignment)
    assert list(changed) == [assignment.partition("=")[0]] and not refused


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("train.epochs=8", "train.epochs 9 → 8"),
        ("space.tumor_weight=[1, 5]", "space.tumor_weight [1.0, 4.0] → [1.0, 5.0]"),
        ("space.base_rate=[0.1, 0.2]", "space.base_rate None → [0.1, 0.2]"),
        ("search.sampler=random", "search.sampler tpe → random"),
        ("search.grace_epochs=7", "search.grace_epochs 1 → 7"),
        ("seed=4", "seed 0 → 4"),
        ("train.optim.momentum=0.5", "train.optim.momentum 0.9 → 0.5"),
    ],
)
def test_what_may_not(assignment: str, words: str) -> None:
    assert change(assignment)[1] == [words]


def test_a_grid_is_not_narrowed() -> None:
    grid = override(study_preset("quick"), ["search.sampler=grid"])
    narrow = override(grid, ["space.tumor_weight=[1.5, 3]"])
    assert refused_changes(grid.model_dump(mode="json"), narrow) == ["space.tumor_weight [1.0, 4.0] → [1.5, 3.0]"]


def test_configuration_of_another_version() -> None:
    refused = refused_changes({"space": {"unknown": 1}}, StudyConfig())
    assert refused and any("space.unknown 1 → None" in words for words in refused)


def test_a_study_of_a_version_with_fewer_keys_goes_on_with_their_defaults() -> None:
    config = study_preset("quick")
    values = config.model_dump(mode="json")
    del values["train"]["stitch"]["combine"]
    assert refused_changes(values, config) == []
    other = override(config, ["train.stitch.combine=mean"])
    assert refused_changes(values, other) == ["train.stitch.combine vote → mean"]
