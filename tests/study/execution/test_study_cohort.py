"""The cohort of a study: what is checked before the search."""

import pytest

from renalnet.config import override
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from study.config.presets import paper
from study.config.sections import StudyConfig
from study.execution.cohort import check_folds, check_store


def test_more_folds_than_cases_are_refused_before_the_search(tiny_study: StudyConfig, ball_store: Store) -> None:
    check_folds(override(tiny_study, ["final.folds=6"]), ball_store)
    with pytest.raises(ConfigError, match="7 folds of 6 training and validation cases"):
        check_folds(override(tiny_study, ["final.folds=7"]), ball_store)


def test_too_few_validation_cases_are_refused(tiny_study: StudyConfig, ball_store: Store) -> None:
    """Of two cases. The preset `quick` takes any number, and warns; folds choose the winner in their place."""
    check_store(ball_store, tiny_study)
    least = f"search.min_validation_cases={paper().search.min_validation_cases}"
    rule = r"2 validation cases, fewer than 5: .* final\.folds=5, or accept .* --set search\.min_validation_cases=2$"
    with pytest.raises(ConfigError, match=rule):
        check_store(ball_store, override(tiny_study, [least]))
    check_store(ball_store, override(tiny_study, [least, "final.folds=2"]))
