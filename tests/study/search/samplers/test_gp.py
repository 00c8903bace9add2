"""The Gaussian process by its own equations, and the points that are drawn with it."""

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import Trial, TrialState, create_trial
from scipy.optimize import check_grad

from study.config.sections import SearchConfig
from study.config.space import Choice, Domain, Point, Real, Whole
from study.search.sampler import CHOICES, distribution, draw, first_choices, make_sampler
from study.search.samplers.gaussian_process import GaussianProcess, _negative_log_likelihood, _squares
from study.search.samplers.unit_cube import parameter_of, point_at, shares_of, unit

SEARCHED: dict[str, Domain] = {
    "tumor_weight": Real(0.5, 8.0),
    "first_step": Whole(2, 5),
    "ppm_kernels": Choice(("1-2", "1-3", "none")),
}
SEARCH = SearchConfig(sampler="gp", num_startup_trials=4)
POINTS = np.random.default_rng(0).random((12, 3))


def objective(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sin(4 * points[:, 0]) + 0.5 * points[:, 1])


def test_coordinates_and_shares_by_hand() -> None:
    point = {"tumor_weight": 2.0, "first_step": 3, "ppm_kernels": "1-3"}
    root = np.sqrt(0.5)
    # 2 is the middle of 0.5 to 8 on a log scale; the four whole numbers are at 0, 1/3, 2/3 and 1.
    assert unit(point, SEARCHED) == pytest.approx([0.5, 1 / 3, 0, root, 0])
    assert parameter_of(SEARCHED) == [0, 1, 2, 2, 2]
    assert shares_of(point, SEARCHED) == pytest.approx([0.5, 1.5 / 4, 0.5])
    assert point_at([0.5, 0.3, 0.5], SEARCHED) == point


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.999999])
def test_a_share_leads_back_to_its_point(share: float) -> None:
    point = point_at([share] * 3, SEARCHED)
    assert all(point[name] in domain for name, domain in SEARCHED.items())
    assert point_at(shares_of(point, SEARCHED), SEARCHED) == pytest.approx(point)


def test_an_option_of_an_earlier_space_has_coordinates() -> None:
    point = {"tumor_weight": 16.0, "first_step": 5, "ppm_kernels": "1-9"}
    assert unit(point, SEARCHED) == pytest.approx([1.25, 1, 0, 0, 0])
    assert shares_of(point, SEARCHED)[2] == 0.5 and shares_of(point, SEARCHED)[0] < 1


def test_the_gradient_is_that_of_the_likelihood() -> None:
    squares = _squares(POINTS, POINTS, [0, 1, 1])
    values = objective(POINTS)
    logs = np.array([0.3, -0.2, 0.1, -2.0])
    error = check_grad(
        lambda logs: _negative_log_likelihood(logs, squares, values)[0],
        lambda logs: _negative_log_likelihood(logs, squares, values)[1],
        logs,
    )
    assert error < 1e-4


def test_a_process_knows_what_it_has_seen() -> None:
    process = GaussianProcess.fit(POINTS, objective(POINTS), [0, 1, 2])
    mean, sd = process.predict(POINTS)
    assert np.abs(mean - objective(POINTS)).max() < 0.1
    _, far = process.predict(POINTS + 10)
    assert (sd < far).all()
    # Between the observations, it is closer than their mean.
    others = np.random.default_rng(1).random((50, 3))
    residual = process.predict(others)[0] - objective(others)
    assert residual.std() < 0.5 * objective(others).std()


def test_equal_values_are_no_error() -> None:
    mean, _ = GaussianProcess.fit(POINTS, np.full(12, 0.3), [0, 1, 2]).predict(POINTS)
    assert mean == pytest.approx(0.3)


def a_study() -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(CHOICES, first_choices(SEARCHED))
    return study


def ask(study: optuna.Study, search: SearchConfig = SEARCH, seed: int = 0) -> tuple[Trial, Point]:
    study.sampler = make_sampler(search, SEARCHED, seed, len(study.trials))
    trial = study.ask()
    return trial, draw(trial, SEARCHED)


def value_of(point: Point) -> float:
    """Return a value that is best at a weight of 2, the latest milestone and the second set of kernels."""
    off = np.log(point["tumor_weight"] / 2) ** 2
    return float(0.6 - 0.3 * off + 0.05 * point["first_step"] + 0.1 * (point["ppm_kernels"] == "1-3"))


def searched(search: SearchConfig, seed: int, num_trials: int = 16) -> list[float]:
    study = a_study()
    values = []
    for _ in range(num_trials):
        trial, point = ask(study, search, seed)
        values.append(value_of(point))
        trial.report(values[-1], 1)
        study.tell(trial, values[-1])
    return values


def test_it_beats_random_points() -> None:
    ours = [max(searched(SEARCH, seed)) for seed in range(3)]
    random = [max(searched(SearchConfig(sampler="random"), seed)) for seed in range(3)]
    best = 0.6 + 0.05 * 5 + 0.1
    assert np.mean(ours) > np.mean(random)
    assert min(ours) > best - 0.02


def test_the_same_history_gives_the_same_point() -> None:
    points = []
    for _ in range(2):
        study = a_study()
        for _ in range(6):
            trial, point = ask(study)
            trial.report(value_of(point), 1)
            study.tell(trial, value_of(point))
        points.append(ask(study)[1])
    assert points[0] == points[1]


def reported(values: dict[int, float], state: TrialState, point: Point) -> optuna.trial.FrozenTrial:
    forms = {name: distribution(domain) for name, domain in SEARCHED.items()}
    done = {"value": max(values.values())} if state == TrialState.COMPLETE else {}
    return create_trial(state=state, params=point, distributions=forms, intermediate_values=values, **done)


@pytest.mark.parametrize(
    ("values", "state", "expected"),
    [
        # The first milestone is 3, so the rung is at epoch 4: what comes later does not count.
        ({1: 0.1, 2: 0.4, 3: 0.2, 4: 0.3, 5: 0.9}, TrialState.COMPLETE, 0.4),
        ({1: 0.1, 2: 0.2, 3: 0.2, 4: 0.3}, TrialState.RUNNING, 0.3),
        ({1: 0.1, 2: 0.2}, TrialState.RUNNING, None),
        ({1: 0.1, 2: 0.2}, TrialState.PRUNED, 0.2),
        ({1: 0.1}, TrialState.FAIL, None),
    ],
)
def test_what_a_trial_teaches(values: dict[int, float], state: TrialState, expected: float | None) -> None:
    point = {"tumor_weight": 2.0, "first_step": 3, "ppm_kernels": "1-3"}
    sampler: Callable[..., float | None] = make_sampler(SEARCH, SEARCHED, 0, 9)._inner._value  # type: ignore[attr-defined]
    assert sampler(reported(values, state, point)) == expected


def test_trials_that_run_at_once_differ() -> None:
    study = a_study()
    for _ in range(6):
        trial, point = ask(study)
        trial.report(value_of(point), 1)
        study.tell(trial, value_of(point))
    points = np.array([unit(ask(study)[1], SEARCHED) for _ in range(4)])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(4)
    assert apart.min() >= 0.05


def test_two_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="sampler gp learns from one objective; with objective pareto, choose tpe"):
        SearchConfig(sampler="gp", objective="pareto")
