"""Studies whose trials begin with the weights of a model bundle."""

import json
from pathlib import Path

import pytest
import torch
from support.bundles import bundle_config
from support.study_command import ONE_AT_A_TIME, command, run

from renalnet.config import TrainConfig, override
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from renalnet.nets import build_net
from renalnet.nets.bundle import load_model, model_digest, save_model
from study.config import space
from study.config.changes import refused_changes
from study.config.sections import StudyConfig
from study.execution.connection import JOB_MARK
from study.execution.init_bundle import pin_init


def write_bundle(folder: Path, train: TrainConfig, seed: int = 7) -> Path:
    net = build_net(train.net, train.labels, seed)
    save_model(folder, dict(net.state_dict()), bundle_config(train))
    return folder


def test_a_study_states_the_absolute_path_and_the_checksum(
    tiny_study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "bundle", tiny_study.train)
    monkeypatch.chdir(tmp_path)
    train = pin_init(override(tiny_study, ["train.init=bundle"])).train
    assert (train.init, train.init_sha256) == (str(bundle), model_digest(bundle))
    assert pin_init(tiny_study) is tiny_study


def test_a_study_does_not_go_on_with_another_bundle(tiny_study: StudyConfig, tmp_path: Path) -> None:
    named = override(tiny_study, [f"train.init={write_bundle(tmp_path, tiny_study.train)}"])
    before = pin_init(named)
    assert refused_changes(before.model_dump(mode="json"), pin_init(named)) == []
    write_bundle(tmp_path, tiny_study.train, seed=8)
    (refused,) = refused_changes(before.model_dump(mode="json"), pin_init(named))
    assert refused.startswith(f"train.init_sha256 {before.train.init_sha256} → ")


def test_baselines_begin_with_random_weights(tiny_study: StudyConfig) -> None:
    base = tiny_study.train.model_copy(update={"init": "/bundle", "init_sha256": "0" * 64})
    point = space.first_point(base, tiny_study.space, "fcn_ppm")
    assert point is not None
    own = space.configure(base, "fcn_ppm", {4: 4}, point)
    assert (own.init, own.init_sha256) == ("/bundle", "0" * 64)
    other = space.configure(base, "unet3d", {4: 6}, {name: point[name] for name in point if name != space.KERNELS})
    assert (other.init, other.init_sha256) == (None, None)


def test_every_width_of_the_search_must_fit(tiny_study: StudyConfig, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, tiny_study.train)
    with pytest.raises(ConfigError, match="width 4 there, 16 here"):
        pin_init(override(tiny_study, [f"train.init={bundle}", "space.width=[4, 16]"]))


def test_a_submitted_job_names_no_relative_bundle(tiny_study: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB_MARK, "{}")
    with pytest.raises(ConfigError, match="inside a submitted job paths must be absolute"):
        pin_init(override(tiny_study, ["train.init=bundle"]))


def test_a_missing_bundle_is_refused_before_anything_is_written(
    ball_store: Store, tiny_file: Path, tmp_path: Path
) -> None:
    done = run(command(ball_store, tiny_file, tmp_path / "r", "--set", f"train.init={tmp_path / 'none'}"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"{tmp_path / 'none'} holds no model" in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_the_trials_of_a_study_begin_with_it(
    tiny_study: StudyConfig, ball_store: Store, tiny_file: Path, tmp_path: Path
) -> None:
    """With a learning rate of almost 0, trained weights are those of the beginning."""
    bundle = write_bundle(tmp_path / "bundle", tiny_study.train)
    shorter = ["train.epochs=1", "train.optim.base_rate=1e-12", "search.num_trials=1", "search.baselines=[unet3d]"]
    settings = [f"train.init={bundle}", "final.num_finalists=1", *shorter]
    results = tmp_path / "r"
    done = run(
        command(
            ball_store, tiny_file, results, *(word for each in settings for word in ("--set", each)), *ONE_AT_A_TIME
        )
    )
    assert done.returncode == 0, done.stderr
    given, _ = load_model(bundle)
    weights, about = load_model(results / "best")
    assert all(torch.allclose(weights[name], given[name], atol=1e-6) for name in given if name.endswith(".weight"))
    assert about.train.init_sha256 == model_digest(bundle)
    assert (
        f"began with the weights of {bundle}, sha256 {model_digest(bundle)}"
        in (results / "best" / "README.md").read_text()
    )
    baseline = json.loads((results / "trials" / "unet3d-0000" / "trial.json").read_text())
    assert (baseline["train"]["init"], baseline["state"]) == (None, "complete")
