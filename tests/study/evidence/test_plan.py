"""The plan of the evidence: equal searches, label maps of several collections, what is done and left."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from support.documents import read
from typer.main import get_command

from renalnet.config import KIDNEY_TUMOR, KITS23, fingerprint
from renalnet.data.phantom.label_maps import MAP_SPLITS, find_maps
from renalnet.errors import ConfigError, InputError
from renalnet.runtime.storage import write_json
from renalnet.types import Split
from study.evidence.__main__ import app
from study.evidence.cohort import link_maps
from study.evidence.plan import (
    PRESETS,
    Work,
    collection_of,
    evidence_config,
    painter,
    plan_lines,
)
from study.search.trial_counts import count_repeats, count_trials


def collection(folder: Path, train: list[str], test: list[str]) -> Path:
    """A collection of empty files: the plan only looks at names."""
    for split, cases in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True)
        for case in cases:
            (folder / split / f"{case}.nii.gz").touch()
    return folder


@pytest.mark.parametrize("preset", PRESETS)
def test_all_networks_get_the_same_search(preset: str) -> None:
    config = evidence_config(preset, 0, ["search.num_trials=7"])
    assert set(count_trials(config).values()) == {7} and len(count_trials(config)) == 3
    assert config.final.seeds == 3


def test_short_searches_have_one_finalist_of_each_network() -> None:
    assert set(count_repeats(evidence_config("anatomy", 0, [])).values()) == {2}


def test_seed_and_values_reach_the_study() -> None:
    config = evidence_config("anatomy", 5, ["train.steps_per_epoch=10", "phantom.contrast=narrow", "labels=kits23"])
    assert (config.seed, config.train.steps_per_epoch, config.phantom.contrast) == (5, 10, "narrow")
    assert config.labels == KITS23


@pytest.mark.parametrize(
    ("preset", "assignment", "words"),
    [
        ("anatomi", "search.num_trials=2", "anatomy"),
        ("phantom", "search.num_trials=2", "unknown preset 'phantom'"),
        ("anatomy", "search.baseline_trials=2", "equals search.num_trials"),
        ("anatomy", "seed=2", "--seed"),
    ],
)
def test_unequal_searches_are_refused(preset: str, assignment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evidence_config(preset, 0, [assignment])


def test_a_file_may_not_make_searches_unequal(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("search: {baseline_trials: 1}")
    with pytest.raises(ConfigError, match=r"search\.baseline_trials: cannot be set"):
        evidence_config("anatomy", 0, [], str(path))
    path.write_text("search: {num_trials: 5}")
    assert evidence_config("anatomy", 0, [], str(path)).search.baseline_trials == 5


def test_splits_paint_with_seeds_that_no_other_seed_of_the_command_has() -> None:
    seeds = [
        painter(evidence_config("anatomy", seed, []), split).seed for seed in (0, 1) for split in ("train", "test")
    ]
    assert seeds == [0, 1, 2, 3]


def test_cysts_are_painted_also_where_the_study_does_not_distinguish_them() -> None:
    config = evidence_config("anatomy", 0, [])
    assert config.labels == KIDNEY_TUMOR
    assert painter(config, "train").labels == KITS23


def test_maps_keep_their_split_and_their_collection(tmp_path: Path) -> None:
    folders = [collection(tmp_path / "one", ["a", "b"], ["c"]), collection(tmp_path / "two", ["d"], ["e"])]
    maps = find_maps(folders, "--maps")
    assert {split: list(files) for split, files in maps.items()} == {"train": ["a", "b", "d"], "test": ["c", "e"]}
    assert [collection_of(path) for path in maps["test"].values()] == ["one", "two"]


def test_maps_are_found_below_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection(tmp_path / "one", ["a"], ["b"])
    (tmp_path / "scans").mkdir()
    monkeypatch.setenv("RENALNET_TEST_DATA", str(tmp_path))
    assert list(find_maps([], "--maps")["train"]) == ["a"]
    monkeypatch.delenv("RENALNET_TEST_DATA")
    with pytest.raises(InputError, match="--maps"):
        find_maps([], "--maps")


def test_two_maps_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [collection(tmp_path / "one", ["a"], ["b"]), collection(tmp_path / "two", ["c"], ["a"])]
    with pytest.raises(InputError, match="another map has this name"):
        find_maps(folders, "--maps")


def test_a_collection_without_test_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train and test"):
        find_maps([collection(tmp_path / "one", ["a"], [])], "--maps")


def test_links_are_made_once_and_only_for_the_same_maps(tmp_path: Path) -> None:
    maps = find_maps([collection(tmp_path / "one", ["a"], ["b"])], "--maps")
    work = Work(tmp_path / "work")
    link_maps(maps, work)
    link_maps(maps, work)
    assert (work.maps("train") / "a.nii.gz").resolve() == maps["train"]["a"]
    others: dict[Split, dict[str, Path]] = {**maps, "train": {"z": maps["train"]["a"]}}
    with pytest.raises(InputError, match="other label maps"):
        link_maps(others, work)


def test_the_plan_says_what_is_left(tmp_path: Path) -> None:
    maps = find_maps([collection(tmp_path / "one", ["a"], ["b", "c"])], "--maps")
    lines = dict(line.split(maxsplit=1) for line in plan_lines(evidence_config("quick", 3, []), Work(tmp_path), maps))
    assert lines["maps"] == "1 train, 2 test of one"
    assert lines["painter"] == "wide, 15% healthy, seed 3"
    assert lines["done"] == "nothing"
    assert lines["left"] == "paint, prepare, study, tables and figures"


def test_scans_of_another_painter_are_not_done(tmp_path: Path) -> None:
    config = evidence_config("quick", 0, [])
    work = Work(tmp_path)
    for split in MAP_SPLITS:
        stamp = {"finished": True, "fingerprint": fingerprint(painter(config, split))}
        write_json(work.cohort(split) / "cohort.json", stamp)
    assert work.stages(config) == {"paint": True, "prepare": False, "study": False}
    assert not work.stages(evidence_config("quick", 1, []))["paint"]
    assert not work.stages(evidence_config("quick", 0, ["phantom.contrast=narrow"]))["paint"]


def test_the_commands_of_the_page_have_options_and_values_that_exist() -> None:
    lines = [line for line in read("docs/evidence.md").splitlines() if line.startswith("python -m study.evidence")]
    known = {option for parameter in get_command(app).params for option in parameter.opts}
    assert len(lines) > 5
    for words in map(shlex.split, lines):
        assert {word for word in words if word.startswith("--")} <= known
        values = [value for option, value in pairwise(words) if option == "--set"]
        assert evidence_config("anatomy", 0, values).final.seeds == 3
