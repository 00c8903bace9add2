"""Groups of trials, their mean objectives, and the interaction of two parameters, on values worked out by hand."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import create_trial

from study.records.tables import IMPORTANT
from study.search.importance.factors import choice_factor, number_factor
from study.search.importance.interaction import cells_of, interaction_of
from study.search.importance.write import learned_from

KERNELS = CategoricalDistribution(("1-2", "2-4", "none"))


def test_many_numbers_are_thirds_of_the_trials() -> None:
    factor = number_factor("tumor_weight", [0.5, 1, 2, 3, 4, 8])
    assert [(group.low, group.high) for group in factor.groups] == [(0.5, 1), (2, 3), (4, 8)]
    assert [group.title for group in factor.groups] == ["0.5 to 1", "2 to 3", "4 to 8"]
    assert list(factor.sizes) == [2, 2, 2]
    assert [factor.group_of(value) for value in (0.1, 1.0, 1.5, 3.9, 9.0)] == [0, 0, 1, 2, 2]


def test_few_numbers_are_groups_of_their_own() -> None:
    factor = number_factor("first_step", [2, 5, 2, 3])
    assert [group.title for group in factor.groups] == ["2", "3", "5"]
    assert list(factor.codes) == [0, 2, 0, 1]


@pytest.mark.parametrize(
    ("values", "sizes"), [([1, 1, 1, 1, 2, 3, 4, 5], [4, 2, 2]), ([1, 2, 3, 4, 5, 5, 5, 5, 5, 5], [4, 6])]
)
def test_equal_numbers_are_in_one_group(values: list[float], sizes: list[int]) -> None:
    factor = number_factor("width", values)
    assert list(factor.sizes) == sizes
    assert all(len({int(code) for code in factor.codes[np.array(values) == value]}) == 1 for value in values)


def test_an_option_may_have_no_trials() -> None:
    factor = choice_factor("ppm_kernels", ["2-4", "1-2", "2-4"], ["1-2", "2-4", "none"])
    assert [group.title for group in factor.groups] == ["1-2", "2-4", "none"]
    assert list(factor.sizes) == [1, 2, 0] and not factor.is_comparable


def crossed(objective: dict[tuple[str, int], float], repeats: int) -> optuna.Study:
    """Return a study with `repeats` trials per pair of values, which differ by 0.001 each."""
    study = optuna.create_study(direction="maximize", study_name="fcn_ppm")
    space = {"ppm_kernels": KERNELS, "first_step": IntDistribution(2, 5)}
    for (kernels, step), value in objective.items():
        params = {"ppm_kernels": kernels, "first_step": step}
        for number in range(repeats):
            study.add_trial(create_trial(params=params, distributions=space, value=value + 0.001 * number))
    return study


def test_effects_are_means_with_students_interval() -> None:
    """Five trials of each of four steps: 0.1 and 0.3 in turn below step 4, 0.5 and 0.7 in turn from there on."""
    study = optuna.create_study(direction="maximize", study_name="fcn_ppm")
    for number in range(20):
        step = 2 + number // 5
        value = (0.1 if number % 2 else 0.3) + (0.4 if step > 3 else 0)
        study.add_trial(
            create_trial(params={"first_step": step}, distributions={"first_step": IntDistribution(2, 5)}, value=value)
        )
    first = learned_from([study]).effects[0]
    # 0.3 thrice and 0.1 twice: mean 0.22, sd √(0.048 / 4); t of 4 degrees of freedom is 2.776.
    reach = 2.776445 * np.sqrt(0.048 / 4 / 5)
    assert (first.group, first.num_trials, first.num_pruned) == ("2", 5, 0)
    assert (first.mean_objective, first.low, first.high) == pytest.approx((0.22, 0.22 - reach, 0.22 + reach))


def test_an_effect_that_depends_on_the_other_is_an_interaction() -> None:
    """Only one set of kernels with one step is good, so both matter, and each only with the other.

    The mean ranks of the four cells of 12 trials are 18.5 three times and 42.5: the sum of both effects leaves 6 of
    each, 48 · 6² of the variation of 9188 together. The variation inside the cells is 9188 - 5184, of 44 degrees of
    freedom, and chance puts one of them between the cells.
    """
    values = {("1-2", 2): 0.1, ("1-2", 3): 0.1, ("2-4", 2): 0.1, ("2-4", 3): 0.9}
    learned = learned_from([crossed(values, repeats=12)])
    assert {row.verdict for row in learned.importances} == {IMPORTANT}
    cells = learned.interactions
    assert {name for row in cells for name in (row.first, row.second)} == {"ppm_kernels", "first_step"}
    means = {frozenset((row.first_group, row.second_group)): row.mean_objective for row in cells}
    expected = {frozenset((kernels, f"{step}")): value for (kernels, step), value in values.items()}
    assert means == {pair: pytest.approx(value, abs=0.02) for pair, value in expected.items()}
    assert [row.num_trials for row in cells] == [12] * 4
    assert cells[0].share == pytest.approx((1728 - 4004 / 44) / 9188)
    assert cells[0].p_value is not None and cells[0].p_value <= 0.005


def test_effects_that_add_up_are_no_interaction() -> None:
    generator = np.random.default_rng(2)
    steps = [2 + number % 2 for number in range(48)]
    kernels = ["1-2" if number < 24 else "2-4" for number in range(48)]
    first = choice_factor("ppm_kernels", kernels, ["1-2", "2-4"])
    second = number_factor("first_step", steps)
    objectives = first.codes + second.codes + generator.normal(size=48)
    found = interaction_of(first, second, list(objectives))
    assert found is not None and found.share < 0.05 and found.p_value > 0.05


def test_too_few_trials_or_cells_have_no_interaction() -> None:
    first = choice_factor("ppm_kernels", ["1-2"] * 3 + ["2-4"] * 3, ["1-2", "2-4"])
    second = number_factor("first_step", [2, 2, 2, 3, 3, 3])
    assert cells_of(first, second).pairs == [(0, 0), (1, 1)]
    assert interaction_of(first, second, [1, 2, 3, 4, 5, 6]) is None
    alone = number_factor("first_step", [2, 3, 4, 2, 3, 4])
    assert interaction_of(first, alone, [1, 2, 3, 4, 5, 6]) is None
