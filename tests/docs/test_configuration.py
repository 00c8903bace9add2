"""docs/configuration.md has every key, with the default and the words of its field."""

import re

from support.configuration_page import PAGE, page

from renalnet.config import override
from study.config.sections import StudyConfig


def test_the_page_is_up_to_date() -> None:
    """`python tests/support/configuration_page.py` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_keys_of_the_page_are_accepted_and_have_its_defaults() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \| .* \| `([^`]+)` \| [^|]*\|$", page().partition("## Presets")[0], re.MULTILINE
    )
    assert len(rows) > 80
    for key, default in rows:
        assert override(StudyConfig(), [f"{key}={default}"]) == StudyConfig(), key


def test_each_key_is_explained_once() -> None:
    keys = re.findall(r"^\| `([a-z0-9_.]+)` \|", page().partition("## Presets")[0], re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert {"train.epochs", "final.folds", "space.tumor_weight", "resources.gpus_per_trial", "labels"} <= set(keys)
