"""The cohort of a study: what is checked before the search."""

import pytest

from renalnet.config import override
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from study.config.sections import StudyConfig
from study.execution.cohort import check_folds


def test_more_folds_than_cases_are_refused_before_the_search(tiny_study: StudyConfig, ball_store: Store) -> None:
    check_folds(override(tiny_study, ["final.folds=6"]), ball_store)
    with pytest.raises(ConfigError, match="7 folds of 6 training and validation cases"):
        check_folds(override(tiny_study, ["final.folds=7"]), ball_store)
