"""Finalists run again, over seeds and on folds, before the final stage: which runs there are, and which are left.

A few validation patients and one seed cannot rank configurations that are close. So the best of the search are
repeated over the next seeds, and if asked on k folds of the training and validation patients together; so is the best
of each baseline over the same seeds. Repeats are runs like the search's trials, with a folder and a record each, but
nobody prunes them and the searcher is not told of them.
"""

from itertools import zip_longest

from renalnet.data.batches.cohort import load_cohort
from renalnet.data.batches.folds import Fold
from renalnet.data.store.reader import Store
from study.config.sections import StudyConfig
from study.finalists.finalists import find_finalists, repeats_of
from study.records.trials import TrialRecord, find_record


def list_repeats(config: StudyConfig, results: str) -> list[TrialRecord]:
    """All repeats of a study whose search has ended, as they begin.

    Every finalist's first one comes before any finalist's second one, so that a study that is cut short knows as much
    of each.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a trained network.
    """
    columns = [repeats_of(config, finalist) for finalist in find_finalists(results, config)]
    return [record for row in zip_longest(*columns) for record in row if record]


def left_of(planned: list[TrialRecord], results: str) -> list[TrialRecord]:
    """Those that have not ended, or ended before trials became longer."""
    return [record for record in planned if _is_left(record, find_record(results, record.name))]


def _is_left(planned: TrialRecord, known: TrialRecord | None) -> bool:
    return known is None or known.state == "running" or known.train != planned.train


def check_folds(config: StudyConfig, store: Store) -> None:
    """Refuse folds that the patients or the memory do not allow, before the search. Raises ConfigError."""
    for number in range(config.final.folds):
        load_cohort(store, config.train.loader, Fold(number, config.final.folds, config.seed)).close()
