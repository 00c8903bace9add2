"""What a trial occupies: what is refused, and what a cluster without GPUs yet is asked for."""

import pytest

from renalnet.config import parse
from renalnet.errors import ConfigError
from study.config import ResourceConfig, StudyConfig


@pytest.mark.parametrize("gpus", [0.25, 1.0, 2.0])
def test_a_share_of_one_gpu_or_whole_ones_are_taken(gpus: float) -> None:
    assert ResourceConfig(gpus_per_trial=gpus).gpus_per_trial == gpus


def test_a_fraction_above_one_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gpus_per_trial 1\.5: Ray shares one GPU; name a fraction up to 1"):
        parse(StudyConfig, {"resources": {"gpus_per_trial": 1.5}}, "a study")
