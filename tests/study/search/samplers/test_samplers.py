"""Rules that every sampler of the table keeps, and what each one promises of its points."""

from itertools import islice
from pkgutil import resolve_name

import optuna
import pytest
from support.search_space import EVERYTHING, OWN_WIDTHS

from renalnet.config import NetName, TrainConfig
from renalnet.errors import ConfigError
from study.config.catalogue import SAMPLERS
from study.config.sections import SearchConfig, SpaceConfig
from study.config.space import FIRST_STEP, KERNELS, Point, configure, domains
from study.search.optuna_private import resumed_trial
from study.search.sampler import CHOICES, Sampler, draw, first_choices, make_sampler, num_points
from study.search.samplers.grid import grid

CAN_BE_NARROWED = [name for name, entry in SAMPLERS.items() if resolve_name(entry).can_be_narrowed]


def points(space: SpaceConfig, search: SearchConfig, number: int, network: NetName = "fcn_ppm") -> list[Point]:
    """Return the first points of a search; a point is better the closer its tumor weight is to 2."""
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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_point_is_a_valid_run(sampler: str) -> None:
    assert issubclass(resolve_name(SAMPLERS[sampler]), Sampler)
    search = SearchConfig.model_validate({"sampler": sampler, "num_startup_trials": 5, "grid_levels": 1})
    for point in points(EVERYTHING, search, 20):
        config = configure(TrainConfig(), "fcn_ppm", OWN_WIDTHS, point)
        assert TrainConfig.model_validate(config.model_dump()) == config
        assert config.net.ppm_kernels in EVERYTHING.kernel_sets
        assert 1e-4 <= config.optim.base_rate <= 1e-2 and 0.2 <= config.patch.tumor_share <= 0.6
        assert config.optim.batch_size in (2, 4) and config.net.width in (8, 16)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_history_gives_the_same_points(sampler: str) -> None:
    search = SearchConfig.model_validate({"sampler": sampler, "num_startup_trials": 5, "grid_levels": 2})
    first, second = (points(SpaceConfig(), search, 12) for _ in range(2))
    assert first == second and len({tuple(point.values()) for point in first}) == 12


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_before", [0, 2], ids=["at first", "after two trials"])
def test_an_interrupted_draw_goes_on_with_the_same_point(sampler: str, num_before: int) -> None:
    """A driver may be killed between two parameters of a point; the journal then has the first ones."""
    search = SearchConfig.model_validate({"sampler": sampler, "num_startup_trials": 2, "grid_levels": 2})
    # A parameter with a single value is drawn without the sampler.
    searched = domains(SpaceConfig(kernel_sets=((2, 8), (2,), ()), tumor_weight=(2.0, 2.0)), "fcn_ppm")
    drawn = []
    for num_drawn in range(len(searched) + 1):
        study = optuna.create_study(direction="maximize")
        study.set_user_attr(CHOICES, first_choices(searched))
        for number in range(num_before):
            study.sampler = make_sampler(search, searched, seed=3, number=number)
            trial = study.ask()
            study.tell(trial, draw(trial, searched)["background_weight"])
        study.sampler = make_sampler(search, searched, seed=3, number=num_before)
        draw(study.ask(), dict(islice(searched.items(), num_drawn)))
        study.sampler = make_sampler(search, searched, seed=3, number=num_before)
        drawn.append(draw(resumed_trial(study._storage, study, num_before), searched))
    assert all(point == drawn[-1] for point in drawn)


@pytest.mark.parametrize("sampler", CAN_BE_NARROWED)
def test_a_narrowed_space_is_drawn_from(sampler: str) -> None:
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
