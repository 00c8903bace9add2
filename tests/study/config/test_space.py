"""The search space, and the configurations of a study that are refused."""

import pytest
from support.search_space import EVERYTHING, OWN_WIDTHS

from renalnet.config import TrainConfig, override
from renalnet.errors import ConfigError
from study.config.presets import STUDY_PRESETS, study_preset
from study.config.sections import SpaceConfig, StudyConfig
from study.config.space import FIRST_STEP, GAPS, KERNELS, WIDTH, configure, first_point


def test_first_point_is_the_paper() -> None:
    point = first_point(TrainConfig(), SpaceConfig(), "fcn_ppm")
    weights = {"tumor_weight": 2.0, "background_weight": 0.2}
    assert point == {KERNELS: "2-4-8-16", **weights, FIRST_STEP: 3, GAPS[0]: 2, GAPS[1]: 2}
    assert configure(TrainConfig(), "fcn_ppm", {16: 16}, point) == TrainConfig()


@pytest.mark.parametrize("name", STUDY_PRESETS)
def test_the_values_of_a_preset_are_a_point_of_its_space(name: str) -> None:
    """Else the first trial would be drawn, without a word; a study of one trial would not have its own values."""
    study = study_preset(name)
    point = first_point(study.train, study.space, study.train.net.name)
    assert point is not None
    width = study.train.net.width
    configured = configure(study.train, study.train.net.name, {width: width}, point)
    assert configured.loss.weights(study.labels) == study.train.loss.weights(study.labels)


def test_first_point_holds_what_is_opted_in() -> None:
    point = first_point(TrainConfig(), EVERYTHING, "fcn_ppm")
    assert (
        point is not None
        and {"base_rate": 0.001, "batch_size": 4, WIDTH: 16, "tumor_share": 0.5}.items() <= {**point}.items()
    )
    assert configure(TrainConfig(), "fcn_ppm", OWN_WIDTHS, point) == TrainConfig()


@pytest.mark.parametrize(
    "space",
    [SpaceConfig(tumor_weight=(3.0, 8.0)), SpaceConfig(kernel_sets=((1,),)), SpaceConfig(first_step=(4, 5))],
)
def test_space_without_the_first_point_draws_it(space: SpaceConfig) -> None:
    assert first_point(TrainConfig(), space, "fcn_ppm") is None


def test_baselines_have_no_kernels_and_their_own_width() -> None:
    point = first_point(TrainConfig(), EVERYTHING, "unet3d")
    assert point is not None and KERNELS not in point
    config = configure(TrainConfig(), "unet3d", {8: 5, 16: 6}, point | {WIDTH: 8})
    assert (config.net.name, config.net.width) == ("unet3d", 5)


@pytest.mark.parametrize("name", STUDY_PRESETS)
def test_presets_are_valid_and_named(name: str) -> None:
    config = study_preset(name)
    assert config.preset == name
    assert StudyConfig.model_validate(config.model_dump()) == config


def test_paper_preset_is_the_paper() -> None:
    assert study_preset("paper").train == TrainConfig()
    assert study_preset("paper").final.stitch.stride[0] == 16


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'anatomi'; did you mean 'anatomy'"):
        study_preset("anatomi")


def test_narrower_space() -> None:
    wide = EVERYTHING
    assert wide.is_within(wide)
    assert wide.model_copy(update={"tumor_weight": (1.0, 2.0), "width": (8,)}).is_within(wide)
    assert not wide.model_copy(update={"tumor_weight": (0.1, 2.0)}).is_within(wide)
    assert not wide.model_copy(update={"kernel_sets": ((3,),)}).is_within(wide)
    assert not wide.model_copy(update={"width": None}).is_within(wide)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("search.baselines=[fcn_ppm]", "must be different networks other than fcn_ppm"),
        ("search.baselines=[unet3d, unet3d]", "must be different networks"),
        ("space.tumor_weight=[4, 1]", r"must be a range \(low, high\)"),
        ("space.step_gap=[0, 1]", r"must be a range \(low, high\) of values above 0"),
        ("space.batch_size=[4, 4]", "at least one value, and each value once"),
        ("space.batch_size=[0, 2]", "greater than or equal to 1|greater than 0"),
        ("space.width=[3]", "greater than or equal to 4"),
        ("space.rate_decay=[0.1, 1.0]", "must be below 1"),
        ("space.kernel_sets=[]", "at least one value, and each value once"),
        ("space.kernel_sets=[[0]]", "every kernel must be 1 or more"),
        ("space.tumor_share=[0.2, 0.7]", "add up to 1.05; lower one"),
        ("train.optim.milestones=[3, 5]", "must be three"),
        ("search.kept_models=4", "must not exceed search.kept_models 4"),
        ("train.net.name=unet3d", "set by the study"),
        ("train.seed=3", "set by the study"),
        ("train.patch.shape=[0, 1, 1]", "greater than 0"),
    ],
)
def test_what_cannot_run_is_refused(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(study_preset("paper"), [assignment])
