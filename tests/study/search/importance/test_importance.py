"""Importances of the searched parameters, on simulated trials: what is named, and from how many trials on."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from support.importance_rates import PLANTED, named

from study.records.results import Results
from study.records.tables import IMPORTANT, NOT_IMPORTANT, Importance
from study.search.extension import EPOCHS
from study.search.importance.write import EVALUATOR, NEEDED_TRIALS, learned_from, write_importances
from study.search.journal import open_journal

SPACE: dict[str, BaseDistribution] = {
    "tumor_weight": FloatDistribution(0.5, 8, log=True),
    "ppm_kernels": CategoricalDistribution(("1-2", "2-4")),
}
FEW = f"not enough trials: 12 of {NEEDED_TRIALS}"


def new_study(name: str = "fcn_ppm", **options: Any) -> optuna.Study:
    return optuna.create_study(**({"direction": "maximize"} | options), study_name=name)


def filled(study: optuna.Study, num_trials: int) -> optuna.Study:
    """Add trials whose objective rises with the weight and does not depend on the kernels, and as many pruned ones."""
    generator = np.random.default_rng(5)
    for number in range(num_trials):
        weight = 0.5 + 7.5 * number / max(1, num_trials - 1)
        params = {"tumor_weight": weight, "ppm_kernels": ("1-2", "2-4")[number % 2]}
        values = [weight / 20 + 0.05 * generator.random()] * len(study.directions)
        study.add_trial(create_trial(params=params, distributions=SPACE, values=values))
        pruned = {"tumor_weight": 0.5, "ppm_kernels": "1-2"}
        study.add_trial(create_trial(state=TrialState.PRUNED, params=pruned, distributions=SPACE))
    return study


def importances(*studies: optuna.Study) -> dict[str, Importance]:
    return {row.parameter: row for row in learned_from(studies).importances}


def test_noise_alone_names_no_parameter() -> None:
    """At least 95 of 100 studies must name none; `tests/support/importance_rates.py` prints the rate at more sizes."""
    sizes = ((8, 2), (20, 6), (40, 6), (60, 4))
    wrong = [seed for seed in range(100) if named(*sizes[seed % len(sizes)], seed)]
    assert len(wrong) <= 5


@pytest.mark.parametrize("effect", PLANTED)
def test_a_planted_effect_is_found(effect: str) -> None:
    """It has half of the variance of 60 trials of six parameters."""
    found = [effect.partition(",")[0] in named(60, 6, seed, effect) for seed in range(10)]
    assert sum(found) >= 8


def test_a_parameter_that_decides_is_named_and_the_other_is_not() -> None:
    rows = importances(filled(new_study(), 40))
    weight, kernels = rows["tumor_weight"], rows["ppm_kernels"]
    assert (weight.verdict, kernels.verdict) == (IMPORTANT, NOT_IMPORTANT)
    assert weight.importance and weight.low and weight.high
    assert 0.7 < weight.low < weight.importance < weight.high <= 1 and weight.p_value
    assert weight.p_value <= 2 / 2000  # one of two parameters has it by chance in another shuffle
    assert kernels.importance is not None and kernels.importance < 0.1
    assert {(row.network, row.evaluator, row.num_trials) for row in rows.values()} == {("fcn_ppm", EVALUATOR, 40)}


def test_epsilon_squared_of_ranks_worked_by_hand() -> None:
    """20 trials, option a with the ranks 1 to 10: eta² is 5² · 20 / 665, epsilon² is 1 - (1 - eta²) · 19 / 18."""
    study = new_study()
    for number in range(20):
        params = {"ppm_kernels": ("1-2", "2-4")[number // 10], "tumor_weight": 1.0}
        study.add_trial(create_trial(params=params, distributions=SPACE, value=number / 20))
    eta = 25 * 20 / 665
    assert importances(study)["ppm_kernels"].importance == pytest.approx(1 - (1 - eta) * 19 / 18)


@pytest.mark.parametrize("num_trials", [0, 1, 3, 12, NEEDED_TRIALS - 1])
def test_few_trials_are_not_enough(num_trials: int) -> None:
    study = filled(new_study(), num_trials)
    learned = learned_from([study])
    expected = f"not enough trials: {num_trials} of {NEEDED_TRIALS}"
    assert {row.verdict for row in learned.importances} == ({expected} if num_trials else set())
    assert {row.importance for row in learned.importances} <= {None}
    assert learned.effects == [] and learned.interactions == []


def test_equal_objectives_name_nothing() -> None:
    study = new_study()
    for number in range(NEEDED_TRIALS):
        params = {"tumor_weight": 1.0 + number / 10, "ppm_kernels": ("1-2", "2-4")[number % 2]}
        study.add_trial(create_trial(params=params, distributions=SPACE, value=0.5))
    assert {(row.importance, row.p_value, row.verdict) for row in importances(study).values()} == {
        (0.0, 1.0, NOT_IMPORTANT)
    }


def test_two_objectives_count_by_their_mean() -> None:
    """The first rises as the second falls, and both together say nothing."""
    study = new_study(directions=["maximize", "maximize"], direction=None)
    for number in range(30):
        params = {"tumor_weight": 0.5 + 0.2 * number, "ppm_kernels": ("1-2", "2-4")[number % 2]}
        values = [number / 30, 1 - number / 30]
        study.add_trial(create_trial(params=params, distributions=SPACE, values=values))
    assert {row.importance for row in importances(study).values()} == {0.0}


def test_more_networks_need_clearer_effects() -> None:
    """A network without enough trials is not tested, and does not count."""
    alone = importances(filled(new_study(), 40))["tumor_weight"].p_value
    networks = [filled(new_study(name), 40) for name in ("fcn_ppm", "unet3d", "pspnet2d")]
    few = filled(new_study("another"), 12)
    rows = learned_from([*networks, few]).importances
    assert alone is not None
    assert [row.p_value for row in rows if row.parameter == "tumor_weight"] == [3 * alone] * 3 + [None]
    assert [row.verdict for row in rows if row.network == "another"] == [FEW, FEW]


def test_the_files_hold_the_trials_of_todays_length(tmp_path: Path) -> None:
    results = Results(str(tmp_path))
    journal = open_journal(results)
    for name, epochs, number in (("fcn_ppm", 4, 10), ("fcn_ppm-6-epochs", 6, 30)):
        study = optuna.create_study(direction="maximize", study_name=name, storage=journal)
        study.set_user_attr(EPOCHS, epochs)
        filled(study, number)
    journal.close()
    write_importances(results, 6)
    assert {(row.network, row.num_trials) for row in results.importances()} == {("fcn_ppm", 30)}
    weights = [row for row in results.effects() if row.parameter == "tumor_weight"]
    assert [(row.num_trials, row.num_pruned) for row in weights] == [(10, 30), (10, 0), (10, 0)]
    assert results.interactions() == []


def test_what_cannot_be_compared_says_why() -> None:
    study = new_study()
    space = {**SPACE, "first_step": IntDistribution(2, 5), "width": IntDistribution(8, 16)}
    for number in range(NEEDED_TRIALS):
        params = {"tumor_weight": 1.0 + number / 4, "ppm_kernels": "2-4" if number < 2 else "1-2", "first_step": 2}
        params |= {"width": 8} if number % 2 else {}
        own = {name: space[name] for name in params}
        study.add_trial(create_trial(params=params, distributions=own, value=number / 20))
    verdicts = {name: row.verdict for name, row in importances(study).items()}
    one_value = "not compared: all trials have one value, or some have none"
    assert verdicts == {
        "tumor_weight": IMPORTANT,
        "ppm_kernels": "not compared: fewer than 3 trials have another value",
        "first_step": one_value,
        "width": one_value,
    }
