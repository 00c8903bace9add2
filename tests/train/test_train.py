import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.broken_cohort import without_numbers

from renalnet.config import NETWORKS, AugmentConfig, LoaderConfig, TrainConfig, override
from renalnet.config.losses import LOSSES
from renalnet.data.batches.cohort import Cohort
from renalnet.data.batches.decoded_cases import DecodedCases, StoreSource
from renalnet.data.store.reader import Store
from renalnet.errors import CheckpointError, StoreError
from renalnet.inference.pipeline import load_bundle
from renalnet.runtime import device
from renalnet.train.checkpoint import load_checkpoint
from renalnet.train.run import TrainingRun
from renalnet.train.step import learning_rate


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = load_checkpoint(folder)
    assert found is not None
    return found.tensors


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_interrupted_run_ends_bit_for_bit_as_the_undisturbed(
    network: str, tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    config = tiny_train.model_copy(update={"net": tiny_train.net.model_copy(update={"name": network, "width": 8})})
    undisturbed = list(TrainingRun(config, ball_cohort, str(tmp_path / "a")))
    next(iter(TrainingRun(config, ball_cohort, str(tmp_path / "b"))))
    resumed = TrainingRun(config, ball_cohort, str(tmp_path / "b"))
    assert len(list(resumed)) == 2
    for one, two in zip(undisturbed, resumed.records, strict=True):
        assert (one.loss, one.objective) == (two.loss, two.objective)
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_training_learns(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    config = tiny_train.model_copy(update={"epochs": 4, "steps_per_epoch": 15})
    records = list(TrainingRun(config, ball_cohort, str(tmp_path)))
    assert records[-1].loss < records[0].loss / 2
    assert records[-1].dice["kidney"] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("loss", sorted(LOSSES.keys() - {"cross_entropy"}))
def test_training_learns_with_every_other_loss(
    loss: str, tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    config = override(tiny_train, [f"loss.name={loss}", "net.deep_supervision=true", "optim.micro_batch=1"])
    config = config.model_copy(update={"epochs": 4, "steps_per_epoch": 15})
    records = list(TrainingRun(config, ball_cohort, str(tmp_path)))
    assert records[-1].loss < 0.7 * records[0].loss
    assert records[-1].dice["kidney"] > 0.6


@pytest.mark.slow
def test_best_epoch_is_the_bundle(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    run = TrainingRun(tiny_train, ball_cohort, str(tmp_path), describe={"data": "balls"})
    records = list(run)
    best = max(records, key=lambda record: record.objective)
    model = load_bundle(str(tmp_path))
    assert run.best == best
    assert model.config.epoch == best.epoch and model.config.data == "balls"
    assert model.normalisation == ball_cohort.normalisation


@pytest.mark.slow
def test_finished_run_trains_nothing(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    list(TrainingRun(tiny_train, ball_cohort, str(tmp_path)))
    assert list(TrainingRun(tiny_train, ball_cohort, str(tmp_path))) == []


@pytest.mark.slow
def test_more_epochs_go_on(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    list(TrainingRun(tiny_train, ball_cohort, str(tmp_path)))
    longer = tiny_train.model_copy(update={"epochs": 4})
    assert [record.epoch for record in TrainingRun(longer, ball_cohort, str(tmp_path))] == [4]


def test_folder_of_another_run_is_refused(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    next(iter(TrainingRun(tiny_train, ball_cohort, str(tmp_path))))
    with pytest.raises(CheckpointError, match="holds another run"):
        TrainingRun(tiny_train.model_copy(update={"seed": 1}), ball_cohort, str(tmp_path))


@pytest.mark.slow
def test_streamed_run_resumes_bit_for_bit_on_another_machine(
    tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    config = tiny_train.model_copy(update={"loader": LoaderConfig(window=2, visit=1), "epochs": 2})
    undisturbed = list(TrainingRun(config, ball_cohort, str(tmp_path / "a")))
    apart = DecodedCases(
        StoreSource(ball_store, tuple(ball_store.cases("train"))),
        ball_cohort.train.shapes,
        ball_cohort.train.counts,
        keep_all=False,
    )
    streamed = replace(ball_cohort, train=apart)
    next(iter(TrainingRun(config, streamed, str(tmp_path / "b"))))
    richer = config.model_copy(update={"loader": LoaderConfig(window=2, visit=1, memory_mb=500, workers=2)})
    resumed = TrainingRun(richer, ball_cohort, str(tmp_path / "b"))
    list(resumed)
    assert [record.loss for record in resumed.records] == [record.loss for record in undisturbed]
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_another_window_is_another_run(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    next(iter(TrainingRun(tiny_train, ball_cohort, str(tmp_path))))
    other = tiny_train.model_copy(update={"loader": LoaderConfig(window=2)})
    with pytest.raises(CheckpointError, match="holds another run"):
        TrainingRun(other, ball_cohort, str(tmp_path))


def test_augmented_run_resumes_bit_for_bit(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    options = {name: chance.model_copy(update={"probability": 0.5}) for name, chance in AugmentConfig()}
    config = tiny_train.model_copy(update={"augment": AugmentConfig(**options), "epochs": 2})
    undisturbed = list(TrainingRun(config, ball_cohort, str(tmp_path / "a")))
    next(iter(TrainingRun(config, ball_cohort, str(tmp_path / "b"))))
    resumed = TrainingRun(config, ball_cohort, str(tmp_path / "b"))
    list(resumed)
    assert [record.loss for record in resumed.records] == [record.loss for record in undisturbed]


def test_waiting_for_data_is_a_share_of_the_training_steps(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=itertools.count().__next__)  # each reading is one second later
    monkeypatch.setattr("renalnet.train.run.time", clock)
    monkeypatch.setattr("renalnet.data.batches.loader.time", clock)
    config = tiny_train.model_copy(update={"loader": LoaderConfig(workers=0)})
    records = list(TrainingRun(config, ball_cohort, str(tmp_path / "a")))
    # One reading before the first step and after each, and two around each of the three batches.
    assert [record.data_wait_share for record in records] == [3 / 9] * 3
    assert [record.voxels_per_s for record in records] == [3 * 2 * 8 * 16 * 16 / 9] * 3
    logged = [
        json.loads(line)["data_wait_share"] for line in (tmp_path / "a" / "epochs.jsonl").read_text().splitlines()
    ]
    assert logged == [3 / 9] * 3
    broken = without_numbers(ball_cohort)
    (failed,) = TrainingRun(config, broken, str(tmp_path / "b"))
    assert failed.failure and failed.data_wait_share == 1 / 3


def test_rate_falls_after_each_milestone() -> None:
    rates = [learning_rate(TrainConfig(), epoch) for epoch in range(1, 10)]
    expected = [1e-3] * 3 + [1e-4] * 2 + [1e-5] * 2 + [1e-6] * 2
    assert rates == pytest.approx(expected)


def test_other_thread_count_is_said(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    next(iter(TrainingRun(tiny_train, ball_cohort, str(tmp_path))))
    torch.set_num_threads(2)
    TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    torch.set_num_threads(before)
    assert "will not repeat bit for bit" in caplog.text


@pytest.mark.parametrize(("flags", "is_said"), [("fma avx2", True), ("avx512f avx512_bf16", False)])
def test_emulated_bfloat16_is_said(
    tiny_train: TrainConfig,
    ball_cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    flags: str,
    is_said: bool,
) -> None:
    monkeypatch.setattr(device, "has_gpu", lambda: False)
    monkeypatch.setattr(device, "_cpuinfo", lambda: f"flags : {flags}")
    run = TrainingRun(tiny_train.model_copy(update={"precision": "bfloat16"}), ball_cohort, tmp_path)
    assert str(run.device) == ("cpu, emulated bfloat16" if is_said else "cpu, bfloat16")
    assert ("no instructions for bfloat16" in caplog.text) == is_said
    TrainingRun(tiny_train, ball_cohort, tmp_path / "float32")
    assert caplog.text.count("no instructions for bfloat16") == is_said


def test_no_validation_case_is_refused_at_once(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    alone = replace(ball_cohort, validation=[])
    with pytest.raises(StoreError, match="no validation ROI"):
        TrainingRun(tiny_train, alone, str(tmp_path))


def test_log_is_whole_after_a_kill_behind_the_checkpoint(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    list(TrainingRun(tiny_train, ball_cohort, str(tmp_path)))
    log = tmp_path / "epochs.jsonl"
    whole = log.read_text()
    log.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    assert log.read_text() == whole
