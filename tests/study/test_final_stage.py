"""The final stage in this process, on networks trained for seconds."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from renalnet import storage
from renalnet.config import CrfConfig, TrainConfig
from renalnet.data.cohort import Cohort
from renalnet.data.store import Store
from renalnet.infer.pipeline import load_ensemble, segment_roi
from renalnet.train import TrainingRun
from study import layout
from study.candidates import planned_repeats
from study.collect import TrialRecord, read_parquet, write_record
from study.config import StudyConfig
from study.final import Row, SegmentJob, run_final, segment_case
from study.selection import earlier_readings


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine threads wait for each other far longer than these networks take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tiny_study: StudyConfig) -> StudyConfig:
    """Two seeds of one finalist, without the field, which takes seconds a patient."""
    search = tiny_study.search.model_copy(update={"baselines": ()})
    final = tiny_study.final.model_copy(update={"seeds": 2, "num_finalists": 1, "crf": CrfConfig(iterations=0)})
    return tiny_study.model_copy(update={"search": search, "final": final})


def train(results: Path, cohort: Cohort, record: TrialRecord) -> None:
    folder = layout.trial_folder(str(results), record.name)
    list(TrainingRun(TrainConfig.model_validate(record.train), cohort, folder))
    write_record(str(results), record.ended("complete", "all epochs trained"))


def train_both(results: Path, cohort: Cohort, config: StudyConfig, tiny_train: TrainConfig, epochs: int) -> None:
    """A finalist and its repeat, longer than before where they have been trained."""
    length = {"epochs": epochs, "steps_per_epoch": 12}  # so long that the last epoch is better than the first
    finalist = TrialRecord(0, "fcn_ppm", "running", {}, {**tiny_train.model_dump(mode="json"), **length})
    for record in (finalist, *planned_repeats(config, finalist)):
        train(results, cohort, record)


class Segmenter:
    """Runs jobs here and counts them."""

    def __init__(self) -> None:
        self.num_jobs = 0

    def __call__(self, jobs: Sequence[SegmentJob]) -> Iterator[list[Row]]:
        self.num_jobs += len(jobs)
        return map(segment_case, jobs)


def test_an_ensemble_is_measured_once_for_its_weights(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    results, segmenter = str(tmp_path), Segmenter()
    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=1)
    winner = run_final(config, results, ball_store, segmenter)
    assert (winner.name, winner.members) == ("fcn_ppm-0000", ("fcn_ppm-0000", "fcn_ppm-0000-seed-1"))
    assert segmenter.num_jobs == 4  # two validation and two test patients
    run_final(config, results, ball_store, segmenter)
    assert segmenter.num_jobs == 4 and not earlier_readings(results)

    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=3)
    longer = run_final(config, results, ball_store, segmenter)
    parts = storage.list_names(layout.parts_folder(results))
    assert parts == [f"{split}-fcn_ppm-0000-{longer.digest}.parquet" for split in ("test", "validation")]
    assert longer.digest != winner.digest and segmenter.num_jobs == 8
    assert len(earlier_readings(results)) == 1


def test_labels_are_those_of_the_joint_vote(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    results = str(tmp_path)
    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=1)
    winner = run_final(config, results, ball_store, Segmenter())
    model = load_ensemble([layout.trial_folder(results, name) for name in winner.members])
    case = ball_store.cases("test")[0]
    roi = ball_store.read(case)
    stages = segment_roi(model, roi.image, roi.spacing_mm, config.final.stitch, config.final.crf)
    kept = storage.read_arrays(layout.roi_labels_path(results, winner.name, case))["labels"]
    np.testing.assert_array_equal(kept, stages.final)
    measured = read_parquet(layout.final_path(results, "metrics.parquet"))
    assert {(row["checkpoint"], row["role"]) for row in measured} == {("fcn_ppm-0000", "winner"), ("", "rule")}
