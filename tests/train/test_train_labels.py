"""Training with other label sets than kidney and tumor, and the records of its epochs."""

import json
from pathlib import Path

import pytest
from support.cysts import write_cyst_store
from support.label_sets import VESSELS

from renalnet.config import KITS23, LabelSet, PatchConfig, TrainConfig
from renalnet.data.batches.cohort import Cohort, load_cohort
from renalnet.errors import ConfigError
from renalnet.inference.pipeline import load_bundle
from renalnet.train.epochs import EpochRecord, PartialEpoch
from renalnet.train.run import TrainingRun


def with_labels(config: TrainConfig, labels: LabelSet) -> TrainConfig:
    """Return the configuration with the weights and shares of another label set."""
    kept = config.model_dump(exclude={"labels": True, "loss": True, "patch": True})
    return TrainConfig(**kept, labels=labels, patch=PatchConfig(shape=config.patch.shape))


@pytest.mark.slow
def test_training_learns_the_cyst(tiny_train: TrainConfig, tmp_path: Path) -> None:
    config = with_labels(tiny_train, KITS23).model_copy(update={"epochs": 5, "steps_per_epoch": 20})
    cohort = load_cohort(write_cyst_store(tmp_path / "store", KITS23))
    run = TrainingRun(config, cohort, str(tmp_path / "run"))
    records = list(run)
    cohort.close()
    assert list(records[-1].dice) == ["kidney", "tumor", "cyst"]
    assert records[-1].dice["cyst"] > 0.5
    assert records[-1].objective == pytest.approx(sum(records[-1].dice.values()) / 3)
    line = json.loads((tmp_path / "run" / "epochs.jsonl").read_text().splitlines()[-1])
    assert (line["dice_cyst"], line["objective"]) == (records[-1].dice["cyst"], records[-1].objective)
    model = load_bundle(str(tmp_path / "run"))
    assert (model.labels, model.nets[0].num_classes) == (KITS23, 4)
    assert set(model.config.validation) == {"dice_kidney", "dice_tumor", "dice_cyst"}


def test_a_resumed_run_has_the_records_of_its_labels(tiny_train: TrainConfig, tmp_path: Path) -> None:
    """The two vessels are in no label map. Masks without them have a Dice of 1, others one of 0."""
    config = with_labels(tiny_train, VESSELS)
    cohort = load_cohort(write_cyst_store(tmp_path / "store", VESSELS))
    first = next(iter(TrainingRun(config, cohort, str(tmp_path / "run"))))
    resumed = TrainingRun(config, cohort, str(tmp_path / "run"))
    cohort.close()
    assert list(first.dice) == list(VESSELS.names)
    assert {first.dice["renal_artery"], first.dice["renal_vein"]} <= {0.0, 0.5, 1.0}
    assert resumed.records == [first]


@pytest.mark.parametrize(("labels", "names"), [(KITS23, "3 cyst"), (VESSELS, "4 renal_artery, 5 renal_vein")])
def test_a_store_of_other_labels_is_refused_before_anything_is_written(
    labels: LabelSet, names: str, tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"the store: .*1 kidney, 2 tumor\).*{names}\).*one label set"):
        TrainingRun(with_labels(tiny_train, labels), ball_cohort, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_record_has_a_key_for_each_label() -> None:
    record = EpochRecord(2, 0.5, {"kidney": 0.9, "tumor": 0.6, "renal_vein": 0.3}, 0.6, 0.01, 70.0)
    values = record.to_json()
    assert list(values)[:6] == ["epoch", "loss", "dice_kidney", "dice_tumor", "dice_renal_vein", "objective"]
    assert (values["dice_renal_vein"], "dice" in values) == (0.3, False)
    assert EpochRecord.from_json(json.loads(json.dumps(values))) == record


def test_a_line_of_an_earlier_version_is_read() -> None:
    line = (
        '{"epoch": 3, "loss": 0.7, "dice_kidney": 0.8, "dice_tumor": 0.4, "objective": 0.6, "learning_rate": 0.01, '
        '"seconds": 5.0, "failure": "", "data_wait_share": 0.1, "voxels_per_s": 2.0}'
    )
    record = EpochRecord.from_json(json.loads(line))
    assert record == EpochRecord(3, 0.7, {"kidney": 0.8, "tumor": 0.4}, 0.6, 0.01, 5.0, "", 0.1, 2.0)
    assert json.dumps(record.to_json()) == line


def test_a_failed_epoch_has_a_dice_of_zero_for_each_label() -> None:
    record = PartialEpoch(steps=1, loss_sum=3.0).failed(KITS23, 1, 0.1, "the loss is not finite")
    assert (record.dice, record.objective, record.loss) == ({"kidney": 0.0, "tumor": 0.0, "cyst": 0.0}, 0.0, 0.0)


def test_the_objective_is_the_mean_over_labels_of_the_means_over_cases() -> None:
    """Kidney (0.9 + 0.7) / 2, tumor (0.6 + 0.2) / 2, cyst (1 + 0) / 2."""
    partial = PartialEpoch(steps=2, loss_sum=3.0, scores=[(0.9, 0.6, 1.0), (0.7, 0.2, 0.0)])
    record = partial.ended(1, 0.1, 64, KITS23)
    assert record.dice == pytest.approx({"kidney": 0.8, "tumor": 0.4, "cyst": 0.5})
    assert record.objective == pytest.approx(1.7 / 3)
