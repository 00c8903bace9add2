"""YAML text that is read as it is meant, or refused in one line."""

import os
from pathlib import Path

import pytest

from renalnet.config import TrainConfig, override
from renalnet.config.section import read_file
from renalnet.config.yaml_text import parse_yaml
from renalnet.errors import ConfigError
from study.config.presets import quick


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "Off", "NO"])
def test_words_stay_words(word: str) -> None:
    assert parse_yaml(word, "here") == word


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("'true'", "true")])
def test_booleans_are_true_and_false(text: str, value: object) -> None:
    assert parse_yaml(text, "here") == value


def test_numbers_and_lists_are_read_as_before() -> None:
    assert parse_yaml("a: [1, 2.5, null, 1e-3]\nb: {c: 2024-01-01}", "here")["a"] == [1, 2.5, None, "1e-3"]
    assert parse_yaml("", "here") is None


def test_a_setting_may_have_the_value_off() -> None:
    assert override(quick(), ["train.compile=off"]).train.compile == "off"
    assert not override(quick(), ["train.patch.flip=off"]).train.patch.flip


def test_a_key_has_one_value() -> None:
    with pytest.raises(ConfigError, match=r"splits\.yaml: key 'test' is given in line 1 and again in line 3"):
        parse_yaml("test: [a]\nvalidation: [b]\ntest: [c]\n", "splits.yaml")
    assert parse_yaml("a: {b: 1}\nc: {b: 1}\n1: x\n'1': y", "here") == {"a": {"b": 1}, "c": {"b": 1}, 1: "x", "1": "y"}


def test_a_merged_key_may_be_replaced() -> None:
    assert parse_yaml("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}", "here")["d"] == {"b": 3, "c": 2}


def test_aliases_count_as_what_they_stand_for() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 6)]
    assert len(parse_yaml("\n".join(levels[:3]), "here")["a2"]) == 10
    with pytest.raises(ConfigError, match=r"here: holds more than 100,000 values"):
        parse_yaml("\n".join(levels), "here")


@pytest.mark.parametrize("text", ["[" * 40 + "]" * 40, "&a [*a]"])
def test_depth_is_bounded(text: str) -> None:
    with pytest.raises(ConfigError, match="nested more than 30 levels deep"):
        parse_yaml(text, "here")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 100_000, "a: b: c", "{", "2024-13-45"])
def test_what_is_no_yaml_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="here: not valid YAML") as caught:
        parse_yaml(text, "here")
    assert "\n" not in str(caught.value)


def test_a_pipe_and_a_large_file_are_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: is no regular file"):
        read_file(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="zero: is no regular file"):
        read_file("/dev/zero")
    (tmp_path / "large.yaml").write_text("a: 1\n" * 250_000)
    with pytest.raises(ConfigError, match=r"large\.yaml: has 1,250,000 bytes, more than 1,000,000"):
        read_file(tmp_path / "large.yaml")


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        override(TrainConfig(), [f"epochs=[{', '.join(['1'] * 1000)}]"])
    assert len(str(caught.value)) < 400 and str(caught.value).startswith("--set: epochs = [1, 1")


@pytest.mark.parametrize("seed", [-1, 2**32, 5_000_000_000])
def test_a_seed_is_a_number_of_32_bits(seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"seed = {seed}: Input should be"):
        override(quick(), [f"seed={seed}"])
