"""Stopping and resuming within an epoch, and what a resumed run repairs."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.bundles import bundle_config

from renalnet.config import TrainConfig
from renalnet.data.batches.cohort import Cohort
from renalnet.errors import CheckpointError
from renalnet.nets.bundle import load_model, save_model
from renalnet.train.checkpoint import load_checkpoint
from renalnet.train.run import StepReport, TrainingRun


def stop_at(num_questions: int) -> Callable[[], bool]:
    """Return a `should_stop` that is true from the given call on."""
    asked = itertools.count(1)
    return lambda: next(asked) >= num_questions


def same_tensors(first: Path, second: Path) -> bool:
    one, two = load_checkpoint(first), load_checkpoint(second)
    assert one is not None and two is not None and one.tensors.keys() == two.tensors.keys()
    return all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)


def stopped_at_the_next_point(config: TrainConfig, cohort: Cohort, folder: Path) -> TrainingRun:
    """Resume the run, and stop it after the next step or validation case."""
    run = TrainingRun(config, cohort, str(folder), should_stop=lambda: place(run) != start)
    start = place(run)
    list(run)
    return run


def place(run: TrainingRun) -> tuple[int, int]:
    return run.step, len(run.partial.scores)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_stopped_wherever_it_can_be_ends_bit_for_bit_as_the_undisturbed(
    optimizer: str, tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    optim = tiny_train.optim.model_copy(update={"name": optimizer, "base_rate": 0.003})
    tiny_train = tiny_train.model_copy(update={"optim": optim})
    undisturbed = list(TrainingRun(tiny_train, ball_cohort, str(tmp_path / "a")))
    places = []
    while not (run := stopped_at_the_next_point(tiny_train, ball_cohort, tmp_path / "b")).is_finished:
        places.append(place(run))
    # After each step of an epoch, after its first case and, except in the last epoch, after the other case.
    epochs = [[(n + 1, 0), (n + 2, 0), (n + 3, 0), (n + 3, 1), (n + 3, 0)] for n in (0, 3, 6)]
    assert places == list(itertools.chain(*epochs))[:-1]
    for one, two in zip(undisturbed, run.records, strict=True):
        assert (one.loss, one.dice) == (two.loss, two.dice)
    assert same_tensors(tmp_path / "a", tmp_path / "b")


def test_a_stopped_run_says_each_step_once(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    reports: list[StepReport] = []
    folder = str(tmp_path)
    list(TrainingRun(tiny_train, ball_cohort, folder, should_stop=lambda: len(reports) >= 2, on_step=reports.append))
    assert load_checkpoint(tmp_path).step == 2  # type: ignore[union-attr]
    records = list(TrainingRun(tiny_train, ball_cohort, folder, on_step=reports.append))
    assert [(report.epoch, report.step) for report in reports] == list(itertools.product((1, 2, 3), (1, 2, 3)))
    assert records[0].loss == sum(report.loss for report in reports[:3]) / 3


@pytest.mark.parametrize(("every_s", "steps"), [(0.0, [1, 2, 3]), (1e9, [0, 0, 0])])
def test_checkpoints_come_in_the_rhythm_asked_for(
    every_s: float, steps: list[int], tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    config = tiny_train.model_copy(update={"checkpoint_every_s": every_s, "epochs": 1, "steps_per_epoch": 4})
    seen = []

    def look(report: StepReport) -> None:
        found = load_checkpoint(tmp_path)
        seen.append(found.step if found else 0)

    list(TrainingRun(config, ball_cohort, str(tmp_path), on_step=look))
    assert seen == [0, *steps]  # at a step, the values that the previous step has left
    assert load_checkpoint(tmp_path).step == 4  # type: ignore[union-attr]


def test_rhythm_and_compiling_may_change(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    next(iter(TrainingRun(tiny_train, ball_cohort, str(tmp_path))))
    changed = tiny_train.model_copy(update={"checkpoint_every_s": 7.0, "compile": "off"})
    assert len(TrainingRun(changed, ball_cohort, str(tmp_path)).records) == 1


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json"])
def test_a_kill_between_checkpoint_and_best_model_is_mended(
    lost: str, tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    run = TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    next(iter(run))
    whole = (tmp_path / lost).read_bytes()
    (tmp_path / lost).write_bytes(b"of another epoch")
    TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    assert (tmp_path / lost).read_bytes() == whole
    assert load_model(tmp_path)[1].epoch == 1


@pytest.mark.slow
def test_a_run_within_an_epoch_leaves_the_best_model_alone(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    list(TrainingRun(tiny_train, ball_cohort, str(tmp_path), should_stop=stop_at(8)))
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 4
    weights, config = load_model(tmp_path)
    TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    assert config.epoch == 1
    assert all(torch.equal(load_model(tmp_path)[0][name], weights[name]) for name in weights)


@pytest.mark.slow
def test_without_its_newest_checkpoint_a_run_goes_back_and_ends_the_same(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    list(TrainingRun(tiny_train, ball_cohort, str(tmp_path / "a")))
    list(TrainingRun(tiny_train, ball_cohort, str(tmp_path / "b")))
    newest = tmp_path / "b" / "checkpoint-000009.json"
    newest.write_text(newest.read_text().replace('"loss": 0', '"loss": 1'))  # still JSON, but with another value
    again = TrainingRun(tiny_train, ball_cohort, str(tmp_path / "b"))
    assert "checkpoint 9 of" in caplog.text and "does not match its checksum" in caplog.text
    assert again.step == 6 and len((tmp_path / "b" / "epochs.jsonl").read_text().splitlines()) == 2
    list(again)
    assert same_tensors(tmp_path / "a", tmp_path / "b")


def test_other_conditions_are_said(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    next(iter(TrainingRun(tiny_train, ball_cohort, str(tmp_path))))
    TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    assert caplog.text == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("renalnet.train.state.processor_name", lambda: "another, AVX2")
        patch.setattr(torch, "__version__", "2.12.0")
        TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    assert f"torch {torch.__version__} then, 2.12.0 now" in caplog.text
    assert "another, AVX2 now" in caplog.text and "will not repeat bit for bit" in caplog.text


def test_a_checkpoint_tells_where_it_is(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    list(TrainingRun(tiny_train, ball_cohort, str(tmp_path), should_stop=stop_at(3)))
    told = json.loads((tmp_path / "checkpoint-000002.json").read_text())
    assert (told["step"], told["micro_batch"], told["partial"]["steps"]) == (2, 2, 2)
    assert told["environment"]["threads"] == torch.get_num_threads()
    assert told["environment"]["torch"] == torch.__version__


def test_a_model_without_checkpoints_is_not_overwritten(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    save_model(tmp_path, {"w": torch.arange(3.0)}, bundle_config(epoch=4))
    with pytest.raises(CheckpointError, match=r"holds a model \(model.safetensors\) but no checkpoint"):
        TrainingRun(tiny_train, ball_cohort, str(tmp_path))
