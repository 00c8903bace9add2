"""Importances of the searched parameters, compared with Optuna's own on the same trials."""

from pathlib import Path

import optuna
import pyarrow.parquet as pq
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from study.records.results import Results
from study.search.extension import EPOCHS
from study.search.importance import importance_rows, write_importances
from study.search.journal import open_journal

SPACE = {"tumor_weight": FloatDistribution(0.5, 8, log=True), "ppm_kernels": CategoricalDistribution(("1-2", "2-4"))}


def filled(study: optuna.Study, num_trials: int) -> optuna.Study:
    """Add trials whose objective depends on the weight and not on the kernels."""
    for number in range(num_trials):
        weight = 0.5 + 7.5 * number / max(1, num_trials - 1)
        params = {"tumor_weight": weight, "ppm_kernels": ("1-2", "2-4")[number % 2]}
        study.add_trial(create_trial(params=params, distributions=SPACE, value=1 - abs(weight - 4) / 4))
        pruned = {"tumor_weight": 0.5, "ppm_kernels": "1-2"}
        study.add_trial(create_trial(state=TrialState.PRUNED, params=pruned, distributions=SPACE))
    return study


def test_they_are_optunas_of_the_whole_trials() -> None:
    study = filled(optuna.create_study(direction="maximize", study_name="fcn_ppm"), 40)
    rows = importance_rows(study)
    own = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    assert {row.parameter: row.importance for row in rows} == pytest.approx(own)
    assert sum(row.importance for row in rows) == pytest.approx(1)
    assert {(row.network, row.num_trials) for row in rows} == {("fcn_ppm", 40)}
    assert max(rows, key=lambda row: row.importance).parameter == "tumor_weight"


@pytest.mark.parametrize("num_trials", [0, 1, 3])
def test_few_trials_tell_nothing(num_trials: int) -> None:
    assert importance_rows(filled(optuna.create_study(direction="maximize"), num_trials)) == []


def test_equal_objectives_tell_nothing() -> None:
    study = optuna.create_study(direction="maximize")
    for weight in (1.0, 2.0, 3.0, 4.0, 5.0):
        params = {"tumor_weight": weight, "ppm_kernels": "1-2"}
        study.add_trial(create_trial(params=params, distributions=SPACE, value=0.5))
    assert importance_rows(study) == []


def test_two_objectives_count_by_their_mean() -> None:
    both = optuna.create_study(directions=["maximize", "maximize"], study_name="fcn_ppm")
    for number in range(20):
        params = {"tumor_weight": 0.5 + 0.3 * number, "ppm_kernels": ("1-2", "2-4")[number % 2]}
        both.add_trial(create_trial(params=params, distributions=SPACE, values=[0.9, number / 20]))
    assert {row.parameter for row in importance_rows(both)} == set(SPACE)


def test_the_file_holds_the_trials_of_todays_length(tmp_path: Path) -> None:
    journal = open_journal(Results(str(tmp_path)))
    for name, epochs, number in (("fcn_ppm", 4, 10), ("fcn_ppm-6-epochs", 6, 12)):
        study = optuna.create_study(direction="maximize", study_name=name, storage=journal)
        study.set_user_attr(EPOCHS, epochs)
        filled(study, number)
    journal.close()
    write_importances(Results(str(tmp_path)), 6)
    rows = pq.read_table(tmp_path / "importances.parquet").to_pylist()
    assert {(row["network"], row["num_trials"]) for row in rows} == {("fcn_ppm", 12)}


def test_a_value_that_does_not_differ_decides_nothing() -> None:
    study = optuna.create_study(direction="maximize", study_name="fcn_ppm")
    for number in range(8):
        params = {"tumor_weight": 1.0 + number / 4, "ppm_kernels": "1-2"}
        study.add_trial(create_trial(params=params, distributions=SPACE, value=number / 8))
    assert [row.parameter for row in importance_rows(study)] == ["tumor_weight"]
    constant = optuna.create_study(direction="maximize", study_name="fcn_ppm")
    for number in range(8):
        params = {"tumor_weight": 1.0, "ppm_kernels": "1-2"}
        constant.add_trial(create_trial(params=params, distributions=SPACE, value=number / 8))
    assert importance_rows(constant) == []


def test_values_that_some_trials_lack_take_no_part() -> None:
    study = optuna.create_study(direction="maximize", study_name="fcn_ppm")
    for number in range(8):
        names = ("tumor_weight", "ppm_kernels") if number % 2 else ("tumor_weight",)
        params = {"tumor_weight": 1.0 + number / 4, "ppm_kernels": "1-2"}
        chosen = {name: params[name] for name in names}
        spaces = {name: SPACE[name] for name in names}
        study.add_trial(create_trial(params=chosen, distributions=spaces, value=number / 8))
    assert [row.parameter for row in importance_rows(study)] == ["tumor_weight"]
