"""Configuration sections, overrides, files and presets."""

from inspect import signature
from pathlib import Path

import pytest
from pydantic import ValidationError

from renalnet.commands.describe import describe
from renalnet.commands.prepare import prepare
from renalnet.commands.train import train
from renalnet.config import (
    KIDNEY_TUMOR,
    InferenceConfig,
    NetConfig,
    PhantomConfig,
    PrepareConfig,
    Section,
    TrainConfig,
    fingerprint,
    merge,
    override,
    parse,
    read_file,
)
from renalnet.config.presets import DEFAULT_PRESET, PREPARE_PRESETS, chosen_preset, prepare_preset, train_preset
from renalnet.errors import ConfigError
from study.config.sections import StudyConfig
from study.prepare import prepare as study_prepare
from study.run import _preset_for, _settings, study


def test_defaults_are_the_papers() -> None:
    config = TrainConfig()
    assert config.net.ppm_kernels == (2, 4, 8, 16)
    assert config.loss.weights(KIDNEY_TUMOR) == (0.2, 1.0, 2.0)
    assert (config.optim.base_rate, config.optim.momentum, config.optim.weight_decay) == (0.001, 0.9, 1e-5)
    assert (config.optim.milestones, config.optim.batch_size, config.steps_per_epoch) == ((3, 5, 7), 4, 14000)
    assert config.patch.shape == config.stitch.tile == (64, 150, 150)


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'optim\.momentun'; did you mean 'momentum'\?"):
        parse(TrainConfig, {"optim": {"momentun": 0.5}})


def test_wrong_value_names_key_and_rule() -> None:
    with pytest.raises(ConfigError, match=r"loss\.tumor = -1: Input should be greater than 0"):
        override(TrainConfig(), ["loss.tumor=-1"])


def test_override_reads_yaml_values() -> None:
    config = override(TrainConfig(), ["net.ppm_kernels=[1, 2]", "epochs=2", "optim.base_rate=1e-2"])
    assert (config.net.ppm_kernels, config.epochs, config.optim.base_rate) == ((1, 2), 2, 0.01)


def test_a_key_may_be_written_as_in_a_study() -> None:
    assert override(TrainConfig(), ["train.epochs=2", "optim.batch_size=3"]) == override(
        TrainConfig(), ["epochs=2", "train.optim.batch_size=3"]
    )
    assert override(PrepareConfig(), ["prepare.seed=3"]).seed == override(PhantomConfig(), ["phantom.seed=3"]).seed == 3
    assert override(InferenceConfig(), ["final.crf.iterations=0"]).crf.iterations == 0
    with pytest.raises(ConfigError, match=r"unknown key 'prepare'"):
        override(TrainConfig(), ["prepare.seed=3"])


def test_a_key_without_its_section_names_the_sections_that_have_it() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'epochs'; write train\.epochs$"):
        override(StudyConfig(), ["epochs=2"])
    with pytest.raises(
        ConfigError, match=r"unknown key 'spacing_mm'; write phantom\.spacing_mm or prepare\.spacing_mm$"
    ):
        override(StudyConfig(), ["spacing_mm=null"])


STORES = {name: prepare_preset(name) for name in PREPARE_PRESETS}


@pytest.mark.parametrize("name", STORES)
def test_a_store_has_the_preset_by_which_it_was_prepared(name: str) -> None:
    """Two presets have one grid. A store with other values of its own is taken for the first of them."""
    assert chosen_preset(None, STORES[name]) == chosen_preset(name, STORES[name]) == name
    changed = override(STORES[name], ["num_atlases=2"])
    assert chosen_preset(None, changed) == {"phantom": "anatomy"}.get(name, name)
    assert chosen_preset("phantom", STORES["anatomy"]) == "phantom"


def test_a_preset_of_another_grid_than_the_store_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"S was prepared at \(3.0, 2.5, 2.5\) mm, the grid of preset 'quick', but 'paper'"
    ):
        chosen_preset("paper", STORES["quick"], "S")
    own = override(STORES["quick"], ["spacing_mm=[2, 2, 2]"])
    with pytest.raises(
        ConfigError, match="the grid of no preset; name one with --preset: paper, anatomy, quick, phantom"
    ):
        chosen_preset(None, own)
    assert chosen_preset("paper", own) == "paper"
    with pytest.raises(ConfigError, match="unknown preset 'papre'; did you mean 'paper'"):
        chosen_preset("papre", own)


def test_all_commands_have_the_same_default_without_a_store() -> None:
    """The preset is an option of five commands, each of which resolves it by the same rule."""
    assert chosen_preset(None) == DEFAULT_PRESET == _settings(_preset_for(None), None, []).preset
    commands = (train, describe, prepare, study_prepare, study)
    assert all(signature(command).parameters["preset"].default is None for command in commands)


def test_override_needs_an_assignment() -> None:
    with pytest.raises(ConfigError, match=r"--set 'epochs' is not an assignment; write it as key\.sub=value"):
        override(TrainConfig(), ["epochs"])


def test_merge_keeps_what_is_not_named() -> None:
    config = merge(TrainConfig(), {"loss": {"tumor": 4}}, "file")
    assert config.loss.weights(KIDNEY_TUMOR) == (0.2, 1.0, 4.0)


def test_file_must_be_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list, not a mapping of keys to values"):
        read_file(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / "none.yaml")


@pytest.mark.parametrize("milestones", [(3, 3, 5), (5, 3), (0, 1)])
def test_milestones_increase(milestones: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="must be increasing epochs from 1"):
        parse(TrainConfig, {"optim": {"milestones": milestones}})


def test_a_dilation_for_each_block() -> None:
    with pytest.raises(ConfigError, match="one dilation for each of the 6 blocks"):
        parse(NetConfig, {"dilations": (1, 2)})


def test_a_network_has_one_to_three_poolings() -> None:
    assert [NetConfig(encoder_blocks=(1,) * n, dilations=(1,)).num_poolings for n in (2, 3, 4)] == [1, 2, 3]
    for blocks in ((1,), (1,) * 5):
        with pytest.raises(ConfigError, match=r"encoder_blocks = .* items"):
            parse(NetConfig, {"encoder_blocks": blocks, "dilations": (1,)})


def test_the_kind_of_skip_changes_the_fingerprint_only_where_it_is_not_the_papers() -> None:
    """The first one is that of version 0.4.0, which had no such field."""
    assert fingerprint(NetConfig()) == fingerprint(NetConfig(skip="gefm")) == "3ebe24ced910eb2b"
    assert fingerprint(NetConfig(skip="plain")) != "3ebe24ced910eb2b"


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig().epochs = 3  # type: ignore[misc]


def test_fingerprint_follows_values() -> None:
    assert fingerprint(TrainConfig()) == fingerprint(TrainConfig())
    assert fingerprint(TrainConfig()) != fingerprint(TrainConfig(seed=1))


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'quik'; did you mean 'quick'"):
        train_preset("quik")
    with pytest.raises(ConfigError, match="unknown preset"):
        prepare_preset("none")


@pytest.mark.parametrize(
    ("section", "assignment"),
    [
        (PhantomConfig, "shape=[100000,100000,100000]"),
        (PhantomConfig, "num_cases=1000000000000"),
        (PhantomConfig, "blur_mm=1e9"),
        (PhantomConfig, "noise_hu=1e300"),
        (PhantomConfig, "tumor_volume_ml=[1.0,1e300]"),
        (PrepareConfig, "localiser_phantoms=1000000000000"),
        (TrainConfig, "patch.shape=[8,100000,16]"),
        (TrainConfig, "optim.batch_size=1000000000"),
        (TrainConfig, "loader.workers=1000000000"),
        (TrainConfig, "loader.decoders=1000000000"),
        (TrainConfig, "augment.blur_voxels={range: [0.5, 1e9]}"),
        (StudyConfig, "search.num_trials=1000000000000"),
        (StudyConfig, "search.grid_levels=1000000000"),
        (StudyConfig, "space.first_step=[1,1000000000000]"),
        (StudyConfig, "space.kernel_sets=[[1000000000]]"),
        (StudyConfig, "space.width=[1000000000]"),
        (StudyConfig, "final.seeds=1000000000"),
    ],
)
def test_sizes_that_no_machine_can_hold_are_refused(section: type[Section], assignment: str) -> None:
    key = assignment.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^--set: {'[.: ]+'.join(key.split('.'))}"):
        override(section(), [assignment])
