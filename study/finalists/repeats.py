"""The repeats of finalists, over seeds and on folds, before the final stage.

A few validation cases and one seed cannot rank configurations that are close. Therefore the best configurations of the
search are repeated over the next seeds and, on request, on k folds of the training and validation cases. The best of
each baseline is repeated over the same seeds. A repeat has a folder and a record like a trial of the search, but it is
never pruned, and the searcher does not learn from it.
"""

from itertools import zip_longest

from study.config.sections import StudyConfig
from study.finalists.finalists import find_finalists, repeats_of
from study.records.results import Results
from study.records.trials import TrialRecord, find_record


def list_repeats(config: StudyConfig, results: Results) -> list[TrialRecord]:
    """Return the records of all repeats, as they start, of a study whose search has ended.

    The first repeat of every finalist comes before the second repeat of any, so that a study that is stopped early
    knows the same about each.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a trained network.
    """
    columns = [repeats_of(config, finalist) for finalist in find_finalists(results, config)]
    return [record for row in zip_longest(*columns) for record in row if record]


def left_of(planned: list[TrialRecord], results: Results) -> list[TrialRecord]:
    """Return the repeats that have not ended, or that ended before the trials became longer."""
    return [record for record in planned if _is_left(record, find_record(results, record.name))]


def _is_left(planned: TrialRecord, known: TrialRecord | None) -> bool:
    return known is None or known.state == "running" or known.train != planned.train
