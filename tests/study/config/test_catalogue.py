"""The names of pruners and samplers in a configuration."""

import subprocess
import sys

import pytest

from renalnet.config import override
from renalnet.errors import ConfigError
from study.config.catalogue import PRUNERS, SAMPLERS
from study.config.presets import study_preset
from study.config.sections import SearchConfig


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "search.scheduler=ahsa",
            r"search\.scheduler = 'ahsa': unknown pruner; it must be one of pausing, asha, median, none",
        ),
        ("search.scheduler=5", r"search\.scheduler = 5: .*valid string"),
        ("search.sampler=xyz", r"search\.sampler = 'xyz': unknown sampler; it must be one of tpe, gp, random, grid"),
    ],
)
def test_an_unknown_name_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(study_preset("quick"), [assignment])


def test_the_schema_lists_the_names() -> None:
    properties = SearchConfig.model_json_schema()["properties"]
    assert properties["scheduler"]["enum"] == list(PRUNERS) and properties["sampler"]["enum"] == list(SAMPLERS)


def test_a_configuration_is_read_without_ray_and_optuna() -> None:
    probe = (
        "import sys; from study.config.presets import study_preset; study_preset('paper');"
        "print([name for name in ('ray', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
