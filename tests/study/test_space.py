import optuna
import pytest

from renalnet.config import TrainConfig, override
from renalnet.errors import ConfigError
from study.config import SpaceConfig, StudyConfig
from study.presets import STUDY_PRESETS, study_preset
from study.space import BACKGROUND, FIRST_STEP, GAPS, KERNELS, TUMOR, configure, paper_point, suggest


def test_paper_point_is_the_paper() -> None:
    point = paper_point(TrainConfig(), "fcn_ppm")
    assert point == {KERNELS: "2-4-8-16", TUMOR: 2.0, BACKGROUND: 0.2, FIRST_STEP: 3, GAPS[0]: 2, GAPS[1]: 2}


def test_paper_point_configures_the_paper() -> None:
    config = configure(TrainConfig(), SpaceConfig(), "fcn_ppm", 16, paper_point(TrainConfig(), "fcn_ppm"))
    assert config == TrainConfig()


def test_baselines_have_no_kernels_and_their_own_width() -> None:
    point = paper_point(TrainConfig(), "unet3d")
    assert KERNELS not in point
    config = configure(TrainConfig(), SpaceConfig(), "unet3d", 6, point)
    assert (config.net.name, config.net.width) == ("unet3d", 6)


def test_every_point_is_a_valid_run() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        config = configure(TrainConfig(), SpaceConfig(), "fcn_ppm", 16, suggest(study.ask(), SpaceConfig(), "fcn_ppm"))
        assert TrainConfig.model_validate(config.model_dump()) == config
        assert config.net.ppm_kernels in SpaceConfig().kernel_sets


@pytest.mark.parametrize("name", STUDY_PRESETS)
def test_presets_are_valid_and_named(name: str) -> None:
    config = study_preset(name)
    assert config.preset == name
    assert StudyConfig.model_validate(config.model_dump()) == config
    assert config.search.grace_epochs > config.space.first_step[1]


def test_paper_preset_is_the_paper() -> None:
    assert study_preset("paper").train == TrainConfig()
    assert study_preset("paper").final.stitch.stride[0] == 16


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'anatomi'; did you mean 'anatomy'"):
        study_preset("anatomi")


def test_paper_kernels_must_be_in_the_space() -> None:
    with pytest.raises(ValueError, match=r"must hold train\.net\.ppm_kernels"):
        StudyConfig(space=SpaceConfig(kernel_sets=((1,),)))


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("search.baselines=[fcn_ppm]", "must be different networks, and not fcn_ppm"),
        ("search.baselines=[unet3d, unet3d]", "must be different networks"),
        ("space.tumor_weight=[4, 1]", "must be a range from low to high"),
        ("space.step_gap=[0, 1]", "must be a range from low to high, above 0"),
        ("train.loss.tumor=10", "must hold the first trial's value 10"),
        ("train.net.name=unet3d", "the study's own"),
        ("train.seed=3", "the study's own"),
        ("train.patch.shape=[0, 1, 1]", "greater than 0"),
    ],
)
def test_what_cannot_run_is_refused(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(study_preset("paper"), [assignment])
