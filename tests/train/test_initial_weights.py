"""Runs that begin with the weights of a model bundle: which are taken, what is refused, and how such runs resume."""

import json
import sys
from pathlib import Path

import pytest
import torch
from support import commands
from support.bundles import bundle_config

from renalnet.config import KITS23, LabelSet, TrainConfig, fingerprint, override
from renalnet.data.batches.cohort import Cohort
from renalnet.data.store.reader import Store
from renalnet.errors import CheckpointError, ConfigError
from renalnet.nets import build_net
from renalnet.nets.bundle import load_model, model_digest, save_model
from renalnet.train.checkpoint import load_checkpoint
from renalnet.train.initial_weights import begin_with_bundle, pinned
from renalnet.train.run import TrainingRun

BIAS = "head.bias"


def write_bundle(folder: Path, config: TrainConfig, seed: int = 7) -> str:
    """Write a bundle of a network whose weights and running means no fresh network has."""
    tensors = dict(build_net(config.net, config.labels, seed).state_dict())
    tensors = {name: tensor + 0.5 if tensor.is_floating_point() else tensor + 9 for name, tensor in tensors.items()}
    save_model(folder, tensors, bundle_config(config))
    return str(folder)


def beginning_with(bundle: str, config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"init": bundle})


def with_labels(config: TrainConfig, labels: LabelSet) -> TrainConfig:
    kept = config.model_dump(include={"net", "seed"})
    return TrainConfig(**kept, labels=labels)


@pytest.mark.slow
def test_a_run_begins_with_all_values_of_an_equal_network(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", tiny_train)
    run = TrainingRun(beginning_with(bundle, tiny_train), ball_cohort, str(tmp_path / "run"))
    expected, _ = load_model(bundle)
    own = run.net.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name], expected[name]) for name in expected)
    # BatchNorm's statistics are among them: a fresh network has counted no batch.
    assert {int(value) for name, value in own.items() if name.endswith("num_batches_tracked")} == {9}


def test_a_bundle_of_another_pyramid_and_label_set_gives_the_rest(tiny_train: TrainConfig, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, with_labels(tiny_train, KITS23))
    config = override(tiny_train, ["net.ppm_kernels=[1, 4]"])
    fresh = build_net(config.net, config.labels).state_dict()
    net = build_net(config.net, config.labels)
    begin_with_bundle(net, beginning_with(bundle, config))
    given, _ = load_model(bundle)
    kept = {name for name, value in net.state_dict().items() if torch.equal(value, fresh[name])}
    # The head has 3 classes here, 4 there. The kernel of the second branch is 4 here, 2 there.
    assert kept == {"head.weight", BIAS, "pyramid.branches.1.deconvolution.weight"}
    assert all(torch.equal(value, given[name]) for name, value in net.state_dict().items() if name not in kept)


@pytest.mark.slow
def test_a_resumed_run_ends_bit_for_bit_as_the_undisturbed(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", tiny_train)
    config = beginning_with(bundle, tiny_train)
    undisturbed = list(TrainingRun(config, ball_cohort, str(tmp_path / "a")))
    next(iter(TrainingRun(config, ball_cohort, str(tmp_path / "b"))))
    resumed = TrainingRun(config, ball_cohort, str(tmp_path / "b"))
    assert len(list(resumed)) == 2
    assert [record.loss for record in undisturbed] == [record.loss for record in resumed.records]
    first, second = (load_checkpoint(tmp_path / name) for name in "ab")
    assert first is not None and second is not None
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    plain = list(TrainingRun(tiny_train, ball_cohort, str(tmp_path / "c")))
    assert plain[0].loss != undisturbed[0].loss


@pytest.mark.slow
def test_the_bundle_of_a_run_states_with_what_it_began(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "bundle", tiny_train)
    monkeypatch.chdir(tmp_path)
    list(TrainingRun(beginning_with("bundle", tiny_train), ball_cohort, str(tmp_path / "run")))
    _, about = load_model(tmp_path / "run")
    assert (about.train.init, about.train.init_sha256) == (bundle, model_digest(bundle))


def test_a_run_does_not_go_on_with_another_bundle_of_that_path(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", tiny_train)
    config = beginning_with(bundle, tiny_train)
    next(iter(TrainingRun(config, ball_cohort, str(tmp_path / "run"))))
    known = pinned(config)
    write_bundle(tmp_path / "bundle", tiny_train, seed=8)
    with pytest.raises(CheckpointError, match="holds another run"):
        TrainingRun(config, ball_cohort, str(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"init .*bundle: its weights have the sha256 \w+, not \w+ as init_sha256"):
        TrainingRun(known, ball_cohort, str(tmp_path / "other"))
    # A run with a checkpoint needs the bundle no more.
    assert TrainingRun(known, ball_cohort, str(tmp_path / "run")).step == 3


def test_fewer_than_half_of_the_weights_are_refused_with_what_differs(tiny_train: TrainConfig, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, tiny_train)
    wider = override(tiny_train, ["net.width=8", f"init={bundle}"])
    with pytest.raises(ConfigError, match=r"only \d% of the weights .* fit \(width 4 there, 8 here\), but 50% must"):
        pinned(wider)
    other = override(tiny_train, ["net.name=unet3d", f"init={bundle}"])
    with pytest.raises(ConfigError, match=r"only \d% of .*\(name fcn_ppm there, unet3d here\)"):
        pinned(other)


def test_kernels_alone_do_not_refuse_a_bundle(tiny_train: TrainConfig, tmp_path: Path) -> None:
    """The deconvolutions of the paper's largest kernels hold most of the weights of a network."""
    small = override(tiny_train, ["net.ppm_kernels=[1, 2, 4, 8]"])
    bundle = write_bundle(tmp_path, small)
    papers = override(small, ["net.ppm_kernels=[2, 4, 8, 16]", f"init={bundle}"])
    assert pinned(papers).init_sha256 == model_digest(bundle)


def test_a_checksum_needs_a_bundle(tiny_train: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="init_sha256 abc: needs init"):
        override(tiny_train, ["init_sha256=abc"])


def test_runs_without_a_bundle_keep_their_fingerprint(tiny_train: TrainConfig) -> None:
    assert pinned(tiny_train) is tiny_train
    values = tiny_train.model_dump(exclude={"init", "init_sha256"})
    assert fingerprint(TrainConfig(**values)) == fingerprint(tiny_train)
    assert fingerprint(tiny_train) != fingerprint(tiny_train.model_copy(update={"init": "bundle"}))


def damage(bundle: Path, how: str) -> None:
    """Damage a bundle in the way that a test names."""
    if how == "missing":
        (bundle / "config.json").unlink()
    elif how == "truncated":
        (bundle / "model.safetensors").write_bytes((bundle / "model.safetensors").read_bytes()[:-8])
    else:
        (bundle / "config.json").write_text(json.dumps({"train": {}}))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "holds no model"),
        ("truncated", "does not match its checksum"),
        ("unchecked", "states no sha256 of model.safetensors"),
    ],
)
def test_the_command_refuses_a_damaged_bundle_before_it_writes(
    how: str, words: str, tiny_train: TrainConfig, ball_store: Store, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "bundle", tiny_train)
    damage(tmp_path / "bundle", how)
    options = ["--out", "run", "--preset", "quick", "--set", "init=bundle"]
    command = [sys.executable, "-m", "renalnet", "train", ball_store.path, *options]
    done = commands.run(command, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert not (tmp_path / "run").exists()
