"""The final stage in this process, on networks trained for seconds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch

from renalnet.config import CrfConfig, InferenceConfig, StitchConfig, TrainConfig
from renalnet.data.batches.cohort import Cohort
from renalnet.data.store.reader import Store
from renalnet.inference.pipeline import load_ensemble, segment_roi
from renalnet.inference.stitching import Stitched
from renalnet.runtime import storage
from renalnet.train.run import TrainingRun
from renalnet.types import Split
from study.config.sections import StudyConfig
from study.final.case_jobs import CompactVote, FinalCase, cast_vote
from study.final.post_processing import chosen_from
from study.final.stage import run_final
from study.finalists.finalists import damaged_models, find_finalists, repeats_of
from study.finalists.selection import earlier_readings
from study.records.parquet import read_parquet
from study.records.results import Results
from study.records.trials import TrialRecord, write_record

STAGES = ("network", "crf", "connectivity", "crf_connectivity", "final")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread: on a busy machine, threads wait longer for each other than these networks take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tiny_study: StudyConfig) -> StudyConfig:
    """Return a study with two seeds of one finalist and without dense CRF, which takes seconds per case."""
    search = tiny_study.search.model_copy(update={"baselines": ()})
    final = tiny_study.final.model_copy(update={"seeds": 2, "num_finalists": 1, "crf": CrfConfig(iterations=0)})
    return tiny_study.model_copy(update={"search": search, "final": final})


def train(results: Path, cohort: Cohort, record: TrialRecord) -> None:
    folder = Results(str(results)).trial_folder(record.name)
    list(TrainingRun(TrainConfig.model_validate(record.train), cohort, folder))
    write_record(Results(str(results)), record.ended("complete", "all epochs trained"))


def train_both(results: Path, cohort: Cohort, config: StudyConfig, tiny_train: TrainConfig, epochs: int) -> None:
    """Train a finalist and its repeat, or train them longer."""
    length = {"epochs": epochs, "steps_per_epoch": 12}  # with fewer steps, the last epoch may be worse than the first
    finalist = TrialRecord(0, "fcn_ppm", "running", {}, {**tiny_train.model_dump(mode="json"), **length})
    for record in (finalist, *repeats_of(config, finalist)):
        train(results, cohort, record)


class LocalWork:
    """Runs jobs in this process and counts the votes. After `die_after` votes it raises, like a killed process."""

    def __init__(self, die_after: int = 1000) -> None:
        self.voted: list[str] = []
        self.scored: list[str] = []
        self._die_after = die_after
        self._lock = Lock()

    def vote(
        self, cases: Sequence[FinalCase], stitch: StitchConfig, then: Callable[[FinalCase, CompactVote], Any]
    ) -> Iterator[Any]:
        for case in cases:
            with self._lock:
                if len(self.voted) == self._die_after:
                    raise KeyboardInterrupt
                self.voted.append(str(case))
            yield then(case, cast_vote(case, stitch))

    def apply(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
        self.scored += [str(job) for job in jobs]
        return map(function, jobs)


@pytest.mark.slow
def test_an_ensemble_is_measured_once_for_its_weights(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    results = Results(str(tmp_path))
    work = LocalWork()
    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=1)
    winner = run_final(config, results, ball_store, work).winner
    assert (winner.name, winner.members) == ("fcn_ppm-0000", ("fcn_ppm-0000", "fcn_ppm-0000-seed-1"))
    assert len(work.voted) == 4  # two validation and two test cases
    assert storage.list_names(results.votes_folder) == []
    run_final(config, results, ball_store, work)
    assert len(work.voted) == 4 and not earlier_readings(results)

    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=3)
    longer = run_final(config, results, ball_store, work).winner
    parts = storage.list_names(results.parts_folder)
    splits: dict[Split, list[str]] = {split: ball_store.cases(split) for split in ("test", "validation")}
    expected = [f"{split}-fcn_ppm-0000-{longer.digest}-{case}.parquet" for split in splits for case in splits[split]]
    assert parts == sorted(expected)
    assert longer.digest != winner.digest and len(work.voted) == 8
    assert len(earlier_readings(results)) == 1


@pytest.mark.slow
def test_labels_are_those_of_the_joint_vote(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    results = Results(str(tmp_path))
    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=1)
    outcome = run_final(config, results, ball_store, LocalWork())
    winner = outcome.winner
    model = load_ensemble([results.trial_folder(name) for name in winner.members])
    case = ball_store.cases("test")[0]
    roi = ball_store.read(case)
    used = InferenceConfig(stitch=config.final.stitch, **outcome.post_processing.used_sections)
    found = segment_roi(model, roi.image, roi.spacing_mm, used)
    kept = storage.read_arrays(results.roi_labels_path(winner.name, case))["labels"]
    np.testing.assert_array_equal(kept, found.final)
    measured = read_parquet(results.metrics_path)
    assert {(row["checkpoint"], row["role"]) for row in measured} == {("fcn_ppm-0000", "winner"), ("", "rule")}


@pytest.mark.slow
@pytest.mark.parametrize("die_after", [1, 2, 3])
def test_a_killed_stage_resumes_case_by_case(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path, die_after: int
) -> None:
    results = Results(str(tmp_path))
    killed = LocalWork(die_after)
    again = LocalWork()
    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        run_final(config, results, ball_store, killed)
    run_final(config, results, ball_store, again)
    assert not set(killed.voted) & set(again.voted) and len(killed.voted + again.voted) == 4


@pytest.mark.slow
def test_other_settings_of_the_stage_are_measured_again(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    results = Results(str(tmp_path))
    work = LocalWork()
    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=1)
    run_final(config, results, ball_store, work)
    final = config.final.model_copy(update={"stitch": config.final.stitch.model_copy(update={"combine": "mean"})})
    run_final(config.model_copy(update={"final": final}), results, ball_store, work)
    assert len(work.voted) == 8 and len(earlier_readings(results)) == 1


@pytest.mark.slow
def test_every_combination_of_operations_is_measured_and_the_chosen_one_is_final(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    pytest.importorskip("pydensecrf", reason="the dense CRF is an optional dependency")
    results = Results(str(tmp_path))
    work = LocalWork()
    final = config.final.model_copy(update={"crf": CrfConfig(), "tuning_trials": 3})
    train_both(tmp_path, ball_cohort, config, tiny_train, epochs=3)
    outcome = run_final(config.model_copy(update={"final": final}), results, ball_store, work)
    rows = read_parquet(results.metrics_path)
    mine = [row for row in rows if row["checkpoint"] == outcome.winner.name and row["label"] == "tumor"]
    stages = {stage: [row["dice"] for row in mine if row["stage"] == stage] for stage in STAGES}
    assert {len(dices) for dices in stages.values()} == {4} and set(stages) == {row["stage"] for row in mine}
    chosen = outcome.chosen[outcome.winner.name]
    assert stages["final"] == stages[outcome.post_processing.last_stage]
    known = storage.read_json(results.post_processings_path)[outcome.winner.name]
    assert chosen_from(known) == chosen
    validation = {
        stage: fmean(row["dice"] for row in mine if row["split"] == "validation" and row["stage"] == stage)
        for stage in STAGES
    }
    assert validation["network"] == pytest.approx(chosen.network.tumor)
    assert validation["crf"] == pytest.approx(chosen.after["crf"].tumor)
    assert ("crf" in outcome.post_processing.used) == (validation["crf"] >= validation["network"])
    assert validation["final"] >= validation["network"]


@pytest.mark.slow
def test_a_damaged_model_is_named_and_the_next_best_takes_part(
    config: StudyConfig, tiny_train: TrainConfig, ball_store: Store, ball_cohort: Cohort, tmp_path: Path
) -> None:
    results = Results(str(tmp_path))
    config = config.model_copy(update={"final": config.final.model_copy(update={"seeds": 1})})
    for number in (0, 1):
        values = {**tiny_train.model_dump(mode="json"), "epochs": 1, "steps_per_epoch": 12, "seed": number}
        train(tmp_path, ball_cohort, TrialRecord(number, "fcn_ppm", "running", {}, values))
    best = find_finalists(results, config)[0].name
    other = ({"fcn_ppm-0000", "fcn_ppm-0001"} - {best}).pop()
    assert damaged_models(results, config) == []
    path = tmp_path / "trials" / best / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    (line,) = damaged_models(results, config)
    assert best in line and "does not match its checksum" in line and "the next best trial is used" in line
    assert run_final(config, results, ball_store, LocalWork()).winner.name == other


def test_a_compact_vote_keeps_every_label() -> None:
    probability = np.random.default_rng(0).dirichlet(np.ones(3), (6, 5, 4)).transpose(3, 0, 1, 2).astype(np.float32)
    probability[:, 0] = np.float32([0.3333, 0.33335, 0.33334])[:, None, None]  # equal in half precision
    vote = Stitched(probability.argmax(0).astype(np.uint8), probability)
    expanded = CompactVote.of(vote).expanded()
    np.testing.assert_array_equal(expanded.probability.argmax(0), vote.labels)
    np.testing.assert_allclose(expanded.probability, probability, atol=1e-3)
