"""How a configuration names a loss, and that the field does not disturb runs of older versions."""

import re

import pytest

from renalnet.config import LossConfig, TrainConfig, fingerprint, override, parse
from renalnet.config.losses import LOSSES
from renalnet.errors import ConfigError


def test_the_default_is_the_papers() -> None:
    assert LossConfig().name == "cross_entropy"


def test_an_unknown_name_lists_the_known_ones() -> None:
    message = f"loss.name = 'dice': unknown loss; it must be one of {', '.join(LOSSES)}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        override(TrainConfig(), ["loss.name=dice"])


def test_a_configuration_from_before_the_field_has_the_default() -> None:
    before = TrainConfig().model_dump(mode="json")
    del before["loss"]["name"]
    assert parse(TrainConfig, before) == TrainConfig()


def test_fingerprints_are_those_from_before_the_field() -> None:
    """Written down before the field existed: a checkpoint holds its run's fingerprint, and must still be resumed."""
    assert fingerprint(TrainConfig()) == "49fb90f11373f6ca"
    assert fingerprint(TrainConfig().loss) == "814cabcbfc753df9"


def test_another_loss_is_another_run() -> None:
    other = override(TrainConfig(), ["loss.name=dice_ce"])
    assert fingerprint(other) != fingerprint(TrainConfig())
    assert fingerprint(other.loss) != fingerprint(TrainConfig().loss)
