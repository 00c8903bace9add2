"""`config.json` of a model bundle from elsewhere: it is read as it was written, or refused in one line."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.bundles import bundle_config, make_bundle
from support.mutations import REMOVED, json_mutations

from renalnet.__main__ import main
from renalnet.config import InferenceConfig, PrepareConfig, StitchConfig
from renalnet.errors import CheckpointError
from renalnet.inference.pipeline import load_bundle
from renalnet.nets.bundle import CONFIG_DIGEST, CONFIG_FILE, BundleConfig, load_model, read_config, save_model

Edit = Callable[[dict[str, Any]], Any]


def unsealed(values: Any) -> Any:
    """The configuration as bundles of earlier versions have it, without a checksum of its own."""
    return {name: value for name, value in values.items() if name != CONFIG_DIGEST}


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """The configuration with a right checksum, whatever it states."""
    plain = unsealed(values)
    return {**plain, CONFIG_DIGEST: hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_bundle(tmp_path_factory.mktemp("bundle"), []))


@pytest.fixture
def edited(sound: Path, tmp_path: Path) -> Callable[[str, Any], Path]:
    """Return a function of a key such as `train.net.width` and a value: a bundle with it, without a checksum."""

    def edit(key: str, value: Any) -> Path:
        folder = Path(shutil.copytree(sound, tmp_path / "best"))
        values = unsealed(json.loads((folder / CONFIG_FILE).read_text()))
        *outer, last = key.split(".")
        place = values
        for name in outer:
            place = place[name]
        if value is REMOVED:
            del place[last]
        else:
            place[last] = value
        (folder / CONFIG_FILE).write_text(json.dumps(values))
        return folder

    return edit


def refusal_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_bundle(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_configuration_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = bundle_config(
        device="cpu, float32",
        epoch=3,
        validation={"dice_kidney": 0.5},
        roi=PrepareConfig(spacing_mm=(3.0, 2.0, 2.0)),
        final=InferenceConfig(stitch=StitchConfig(tile=(8, 16, 16), stride=(4, 8, 8))),
        num_members=3,
    )
    save_model(tmp_path, {"w": torch.arange(3.0)}, config)
    back = read_config(tmp_path)
    assert len(back.sha256) == 64 and back.model_copy(update={"sha256": ""}) == config


def test_a_single_run_has_the_sub_volumes_of_its_training(tmp_path: Path) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, bundle_config())
    stored = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert set(stored) == {"sha256", "train", "normalisation", CONFIG_DIGEST}
    config = read_config(tmp_path)
    assert config.final is None and config.inference == InferenceConfig(stitch=config.train.stitch)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("train.net.width", 100_000, "less than or equal to 1024"),
        ("train.net.encoder_blocks", [10**9, 3, 6], "less than or equal to 64"),
        ("train.net.ppm_kernels", [10**6], "less than or equal to 512"),
        ("train.labels", "/etc/hostname", "labels must be a mapping"),
        ("num_members", -1, "greater than or equal to 1"),
        ("num_members", 10**9, "less than or equal to 100"),
        ("num_members", "three", "valid integer"),
        ("normalisation", REMOVED, "Field required"),
        ("normalisation.mean", "x", "valid number"),
        ("normalisation.mean", float("nan"), "finite number"),
        ("normalisation.hu_max", -200, "hu_min -200 must be below hu_max -200"),
        ("normalisation.hu_max", 10**9, "less than 32768"),
        ("roi.spacing_mm", [0.001, 1, 1], "between 0.1 and 20 mm"),
        ("final.stitch.tile", [10**9, 10**9, 10**9], "less than or equal to 1024"),
        ("train", REMOVED, "Field required"),
        ("train", [], "train = []"),
        ("more", 1, "unknown key 'more'"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_name(
    edited: Callable[[str, Any], Path], key: str, value: Any, rule: str
) -> None:
    message = refusal_of(edited(key, value))
    assert rule in message and CONFIG_FILE in message and "name another bundle" in message
    assert key.split(".", maxsplit=1)[0] in message


@pytest.mark.parametrize(("key", "value"), [("width", 8), ("width", 1024), ("ppm_kernels", [1]), ("name", "unet3d")])
def test_weights_of_another_network_are_refused(edited: Callable[[str, Any], Path], key: str, value: Any) -> None:
    """A network of width 1024 would take gigabytes, so the shapes are compared first."""
    assert "its weights are not those of the network" in refusal_of(edited(f"train.net.{key}", value))


def test_an_edited_window_is_noticed(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "best"))
    values = json.loads((folder / CONFIG_FILE).read_text())
    values["normalisation"]["hu_max"] = 100
    (folder / CONFIG_FILE).write_text(json.dumps(values))
    assert "differs from its checksum: it was edited or damaged" in refusal_of(folder)


def test_a_pipe_or_a_huge_file_is_no_configuration(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "best"))
    (folder / CONFIG_FILE).write_text(" " * 1_000_001)
    assert "1,000,001 bytes, more than 1,000,000" in refusal_of(folder)
    (folder / CONFIG_FILE).unlink()
    os.mkfifo(folder / CONFIG_FILE)
    assert "is no regular file" in refusal_of(folder)


def test_a_key_that_is_given_twice_is_refused(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "best"))
    text = (folder / CONFIG_FILE).read_text()
    (folder / CONFIG_FILE).write_text(text.replace("{", '{"num_members": 1, "num_members": 2,', 1))
    assert "key 'num_members' is given twice" in refusal_of(folder)


@pytest.mark.parametrize(
    ("change_json", "every"),
    [
        pytest.param(unsealed, 11, id="some unsealed"),
        pytest.param(lambda values: values, 1, id="edited", marks=pytest.mark.slow),
        pytest.param(unsealed, 1, id="unsealed", marks=pytest.mark.slow),
        pytest.param(sealed, 1, id="sealed", marks=pytest.mark.slow),
    ],
)
def test_any_damage_is_refused_or_a_valid_configuration(
    sound: Path, tmp_path: Path, change_json: Edit, every: int
) -> None:
    content = (sound / CONFIG_FILE).read_bytes()
    refused = 0
    for what, damaged in json_mutations(content, change_json, every):
        (tmp_path / CONFIG_FILE).write_bytes(damaged)
        try:
            config = read_config(tmp_path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1500, what
        else:
            assert BundleConfig.model_validate(config.model_dump()) == config, what
    assert refused > 500 / every


def test_predict_refuses_a_damaged_bundle_in_one_line(
    edited: Callable[[str, Any], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = edited("train.net.width", 100_000)
    words = ["predict", str(tmp_path / "scan.nii.gz"), "--model", str(folder), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["renalnet", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert not (tmp_path / "out").exists()


def test_a_bundle_without_its_own_checksum_is_read(edited: Callable[[str, Any], Path]) -> None:
    _, config = load_model(edited("epoch", 7))
    assert config.epoch == 7
