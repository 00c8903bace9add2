import optuna
import pytest

from renalnet.config import NetName, TrainConfig, override
from renalnet.errors import ConfigError
from study.config.presets import STUDY_PRESETS, study_preset
from study.config.sections import SearchConfig, SpaceConfig, StudyConfig
from study.config.space import FIRST_STEP, GAPS, KERNELS, WIDTH, Point, configure, domains, first_point
from study.search.samplers import CHOICES, draw, first_choices, grid, make_sampler, num_points

EVERYTHING = SpaceConfig(
    base_rate=(1e-4, 1e-2),
    rate_decay=(0.05, 0.5),
    weight_decay=(1e-6, 1e-3),
    tumor_share=(0.2, 0.6),
    batch_size=(2, 4),
    width=(8, 16),
)
OWN_WIDTHS = {8: 8, 16: 16}


def points(space: SpaceConfig, search: SearchConfig, number: int, network: NetName = "fcn_ppm") -> list[Point]:
    """Points that a search draws one after the other; the narrower a tumor weight's distance from 2, the better."""
    searched = domains(space, network)
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(CHOICES, first_choices(searched))
    drawn = []
    for index in range(number):
        study.sampler = make_sampler(search, searched, seed=3, number=index)
        trial = study.ask()
        drawn.append(draw(trial, searched))
        study.tell(trial, -abs(drawn[-1]["tumor_weight"] - 2))
    return drawn


def test_first_point_is_the_paper() -> None:
    point = first_point(TrainConfig(), SpaceConfig(), "fcn_ppm")
    weights = {"tumor_weight": 2.0, "background_weight": 0.2}
    assert point == {KERNELS: "2-4-8-16", **weights, FIRST_STEP: 3, GAPS[0]: 2, GAPS[1]: 2}
    assert configure(TrainConfig(), "fcn_ppm", {16: 16}, point) == TrainConfig()


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


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_every_point_is_a_valid_run(sampler: str) -> None:
    search = SearchConfig.model_validate({"sampler": sampler, "num_startup_trials": 5, "grid_levels": 1})
    for point in points(EVERYTHING, search, 20):
        config = configure(TrainConfig(), "fcn_ppm", OWN_WIDTHS, point)
        assert TrainConfig.model_validate(config.model_dump()) == config
        assert config.net.ppm_kernels in EVERYTHING.kernel_sets
        assert 1e-4 <= config.optim.base_rate <= 1e-2 and 0.2 <= config.patch.tumor_share <= 0.6
        assert config.optim.batch_size in (2, 4) and config.net.width in (8, 16)


def test_grid_draws_each_point_once() -> None:
    space = SpaceConfig(kernel_sets=((2,), ()), first_step=(3, 3), step_gap=(1, 2), background_weight=(0.2, 0.2))
    search, searched = SearchConfig(sampler="grid", grid_levels=2), domains(space, "fcn_ppm")
    assert grid(searched, 3)["tumor_weight"] == pytest.approx([0.5, 2.0, 8.0])
    assert num_points(search, searched) == 2 * 2 * 2 * 2  # kernels, tumor, two gaps
    drawn = points(space, search, 16)
    assert len({tuple(point.values()) for point in drawn}) == 16


def test_a_grid_of_too_many_points_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"points is more than 20000; lower search\.grid_levels"):
        grid(domains(EVERYTHING, "fcn_ppm"), 4)


def test_random_points_do_not_depend_on_the_values() -> None:
    search, searched = SearchConfig(sampler="random"), domains(SpaceConfig(), "fcn_ppm")
    alone = optuna.create_study(sampler=make_sampler(search, searched, seed=3, number=7))
    alone.set_user_attr(CHOICES, first_choices(searched))
    assert draw(alone.ask(), searched) == points(SpaceConfig(), search, 8)[7]


def test_tpe_learns() -> None:
    drawn = points(SpaceConfig(), SearchConfig(num_startup_trials=10), 60)
    distances = [abs(point["tumor_weight"] - 2) for point in drawn]
    assert sum(distances[-20:]) < 0.5 * sum(distances[:20])


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_narrowed_space_is_drawn_from_jointly(sampler: str) -> None:
    wide, narrow = SpaceConfig(), SpaceConfig(kernel_sets=((2, 8),), tumor_weight=(1.0, 2.0), first_step=(3, 4))
    search = SearchConfig.model_validate({"sampler": sampler, "num_startup_trials": 5})
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(CHOICES, first_choices(domains(wide, "fcn_ppm")))
    for index in range(30):
        searched = domains(wide if index < 15 else narrow, "fcn_ppm")
        study.sampler = make_sampler(search, searched, seed=0, number=index)
        trial = study.ask()
        point = draw(trial, searched)
        study.tell(trial, point["background_weight"])
        if index >= 15:
            assert point[KERNELS] == "2-8" and 1 <= point["tumor_weight"] <= 2 and point[FIRST_STEP] in (3, 4)
            is_joint = "tpe:relative_params:0" in study.trials[-1].system_attrs
            assert is_joint == (sampler == "tpe")
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)


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
