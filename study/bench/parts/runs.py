"""Training of the ablation's networks, one process and one thread for each run, and the masks that they make.

A run has a folder, from which it resumes. A finished run has a file of Dice values for each split, and is not repeated.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import torch

from renalnet.config import InferenceConfig, TrainConfig
from renalnet.data.batches.cohort import load_cohort
from renalnet.data.store.reader import Roi, open_store
from renalnet.errors import ResultsError
from renalnet.evaluation.overlap import dice
from renalnet.inference.pipeline import Model, load_bundle, vote_roi
from renalnet.inference.post_processing import Evidence, apply_operation
from renalnet.inference.scan_labels import labels_on_scan
from renalnet.inference.stitching import Stitched
from renalnet.runtime import storage
from renalnet.runtime.machine import keep_memory, num_cores
from renalnet.runtime.workers import Workers
from renalnet.train.run import TrainingRun
from renalnet.types import LabelArray, Split
from study.bench.parts.catalogue import Reading, stitch_of
from study.records.parquet import read_rows, write_rows

_OPERATIONS: Final = InferenceConfig().operations


@dataclass(frozen=True)
class Run:
    """One training run of the ablation and how its masks are measured."""

    name: str
    """Name of the part, or of the reference."""
    seed: int
    config: TrainConfig
    readings: tuple[Reading, ...]
    """How masks are made."""
    work: str
    """Folder of the ablation."""
    store: str
    """Store of the part's grid."""
    truth: str
    """Store of the reference's grid, on which all masks are measured."""

    def __str__(self) -> str:
        return f"run {self.name} with seed {self.seed}"

    @property
    def folder(self) -> str:
        """Folder of the training run and its model bundle."""
        return storage.join(self.work, "runs", f"{self.name}-{self.seed}")

    def scores_path(self, split: Split) -> str:
        """Return the path of the Dice values of a split."""
        return storage.join(self.work, "scores", f"{split}-{self.name}-{self.seed}.parquet")


@dataclass(frozen=True)
class Score:
    """Dice of one mask, on the grid of the reference."""

    run: str
    seed: int
    reading: str
    case: str
    has_tumor: bool
    kidney: float
    """Dice of the kidney, 0 to 1; both empty: 1, one empty: 0."""
    tumor: float
    """Dice of the tumor, likewise."""
    seconds: float
    """Time of inference and post-processing."""


def new_pool() -> Workers:
    """Return processes that train and measure: one for each core, or a single one on a GPU, which they would share."""
    return Workers(1 if torch.cuda.is_available() else num_cores(), _use_one_thread)


def _use_one_thread() -> None:
    # Runs repeat bit for bit only with the same number of threads.
    torch.set_num_threads(1)
    keep_memory()


def finish(runs: Sequence[Run], split: Split, pool: Workers) -> Iterator[Run]:
    """Make the Dice values of a split for each run that lacks them; yield each of these runs when it is done.

    The validation cases are measured by the job that trains; the test cases by jobs of their own.
    """
    left = [run for run in runs if not storage.exists(run.scores_path(split))]
    yield from pool.map(_validated if split == "validation" else _tested, left, _died)


def _died(run: Run, _: str) -> NoReturn:
    # The pool's own reason is about a damaged file.
    raise ResultsError(
        f"{run}: its process died, perhaps for lack of memory; start the command again, which resumes it"
    )


def _validated(run: Run) -> Run:
    train(run)
    return _measured(run, "validation")


def _tested(run: Run) -> Run:
    return _measured(run, "test")


def train(run: Run) -> None:
    """Train a run to its end, from its last checkpoint. Raises ResultsError if training fails."""
    training = TrainingRun(run.config, load_cohort(open_store(run.store), run.config.loader), run.folder)
    for _ in training:
        pass
    if training.records[-1].failure:
        raise ResultsError(f"{run}: {training.records[-1].failure}")


def _measured(run: Run, split: Split) -> Run:
    model = load_bundle(run.folder)
    truths = open_store(run.truth)
    store = open_store(run.store)
    scores = [
        score for case in truths.cases(split) for score in scores_of(run, model, store.read(case), truths.read(case))
    ]
    write_rows(run.scores_path(split), scores)
    return run


def scores_of(run: Run, model: Model, roi: Roi, truth: Roi) -> Iterator[Score]:
    """Yield the Dice of each reading of a case.

    Args:
        run: the run, whose readings are measured.
        model: its networks.
        roi: the case on the grid of the networks.
        truth: the case on the grid of the reference.
    """
    votes: dict[str, tuple[Stitched, float]] = {}
    for reading in run.readings:
        if reading.combine not in votes:
            began = time.perf_counter()
            vote = vote_roi(model, roi.image, stitch_of(run.config, reading))
            votes[reading.combine] = vote, time.perf_counter() - began
        vote, seconds = votes[reading.combine]
        began = time.perf_counter()
        mask = _post_processed(vote, roi, reading, model)
        seconds += time.perf_counter() - began
        on_truth = mask if roi.grid == truth.grid else labels_on_scan(mask, vote.probability, roi.grid, truth.grid)
        yield _score(run, reading, truth, on_truth, seconds)


def _post_processed(vote: Stitched, roi: Roi, reading: Reading, model: Model) -> LabelArray:
    evidence = Evidence(vote.probability, roi.image, roi.spacing_mm, model.labels)
    labels = vote.labels
    for name in reading.operations:
        labels = apply_operation(labels, evidence, _OPERATIONS[name])
    return labels


def _score(run: Run, reading: Reading, truth: Roi, mask: LabelArray, seconds: float) -> Score:
    labels = run.config.labels
    kidney, tumor = (dice(truth.label == each.value, mask == each.value) for each in (labels.kidney, labels.tumor))
    has_tumor = bool((truth.label == labels.tumor.value).any())
    return Score(run.name, run.seed, reading.name, truth.case, has_tumor, kidney, tumor, seconds)


def scores(runs: Sequence[Run], split: Split) -> list[Score]:
    """Return the Dice values of a split of all runs."""
    return [score for run in runs for score in read_rows(run.scores_path(split), Score)]
