from typing import Any

import pytest

from study.config.sections import StudyConfig
from study.search.trial_counts import count_trials


@pytest.mark.parametrize(
    ("changes", "planned"),
    [
        ({"num_trials": 7, "baseline_trials": 3}, {"fcn_ppm": 7, "unet3d": 3, "pspnet2d": 3}),
        ({"num_trials": 7, "baselines": ()}, {"fcn_ppm": 7}),
        # Three first steps by nine pairs of gaps, one level of either weight; 3 kernel sets. The grid's weights are
        # not those of `train`, which come first.
        (
            {"sampler": "grid", "grid_levels": 1, "num_trials": 900, "baseline_trials": 900},
            {"fcn_ppm": 37, "unet3d": 13, "pspnet2d": 13},
        ),
    ],
)
def test_no_more_trials_are_planned_than_there_are_points(
    tiny_study: StudyConfig, changes: dict[str, Any], planned: dict[str, int]
) -> None:
    search = tiny_study.search.model_copy(update=changes)
    assert count_trials(tiny_study.model_copy(update={"search": search})) == planned
