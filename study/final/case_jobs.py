"""What the final stage does for one patient: the vote on a GPU, then field, components and measures on a processor.

All functions are of one patient and one candidate, take what they need from the store and the results, and leave their
result there, so that any process may run them and an interrupted stage goes on patient by patient.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from renalnet.config import StitchConfig
from renalnet.data.images.volume import Volume, to_source, write_volume
from renalnet.data.store.reader import Roi, open_store
from renalnet.evaluation.mask_quality import signs_of
from renalnet.evaluation.table import measure
from renalnet.inference.pipeline import Model, load_ensemble, vote_roi
from renalnet.inference.post_processing import FINAL, Evidence, PostProcessing, stages_of
from renalnet.inference.stitching import Stitched
from renalnet.runtime import storage
from renalnet.types import LabelArray
from study.finalists.finalists import Finalist
from study.records import paths
from study.records.trials import write_parquet

Row: TypeAlias = dict[str, Any]
Done = TypeVar("Done")
Job = TypeVar("Job")
_HALF_STEP: Final = np.float32(2**-11)
"""From 1 to the next lower half-precision number."""


@dataclass(frozen=True)
class FinalCase:
    """One patient through one candidate."""

    results: str
    store: str
    case: str
    candidate: Finalist

    def __str__(self) -> str:
        return f"case {self.case} ({self.candidate.name})"

    def part_path(self, split: str) -> str:
        """Where the measures are kept; its being there says that the patient is done."""
        return paths.part_path(self.results, split, self.candidate.name, self.candidate.digest, self.case)

    @property
    def vote_path(self) -> str:
        """Where the vote is kept until the candidate's steps are settled."""
        return paths.vote_path(self.results, self.candidate.name, self.candidate.digest, self.case)

    def roi(self) -> Roi:
        """The patient's image and truth."""
        return open_store(self.store).read(self.case)


@dataclass(frozen=True, eq=False)
class Ballot:
    """A vote in half the memory, to pass on and to keep."""

    labels: LabelArray
    probability: NDArray[np.float16]

    @classmethod
    def of(cls, stitched: Stitched) -> "Ballot":
        """Probabilities rounded to eleven bits."""
        return cls(stitched.labels, stitched.probability.astype(np.float16))

    def opened(self) -> Stitched:
        """The vote again: where rounding has made classes equal, the voted one is raised by a step."""
        probability = self.probability.astype(np.float32)
        lost = probability.argmax(axis=0) != self.labels
        where = np.nonzero(lost)
        probability[(self.labels[lost], *where)] += _HALF_STEP
        return Stitched(self.labels, probability)


class Work(Protocol):
    """Whoever runs jobs, here or on a cluster."""

    def vote(
        self, patients: Sequence[FinalCase], stitch: StitchConfig, then: Callable[[FinalCase, Ballot], Done]
    ) -> Iterator[Done]:
        """`cast_vote` of each patient where a network runs, then `then` where a processor is free; in order."""
        ...

    def apply(self, function: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """A function of each job where a processor is free; in order."""
        ...


def cast_vote(patient: FinalCase, stitch: StitchConfig) -> Ballot:
    """The joint vote of a candidate's networks."""
    folders = tuple(paths.trial_folder(patient.results, name) for name in patient.candidate.members)
    model = _loaded(folders, patient.candidate.digest)
    return Ballot.of(vote_roi(model, patient.roi().image, stitch))


@lru_cache(maxsize=1)
def _loaded(folders: tuple[str, ...], _digest: str) -> Model:
    """A process goes through many patients with the same networks; other weights have another digest."""
    return load_ensemble(folders)


def keep_ballot(patient: FinalCase, ballot: Ballot) -> None:
    """Keep a vote for `read_ballot`."""
    path = patient.vote_path
    storage.write_arrays(path, {"labels": ballot.labels, "probability": ballot.probability}, is_compressed=False)


def read_ballot(patient: FinalCase) -> Ballot:
    """A vote that was kept."""
    return Ballot(**storage.read_arrays(patient.vote_path))


def finish_kept(patient: FinalCase, post_processing: PostProcessing) -> None:
    """`finish` from a kept vote."""
    finish(patient, read_ballot(patient), post_processing)


def finish(patient: FinalCase, ballot: Ballot, post_processing: PostProcessing) -> None:
    """Final masks on the grids of scan and ROI, their signs, a row a stage and label; the rows last, which end it."""
    roi = patient.roi()
    vote = ballot.opened()
    stages = stages_of(vote.labels, Evidence(vote.probability, roi.image, roi.spacing_mm), post_processing)
    results, name = patient.results, patient.candidate.name
    on_source = to_source(Volume(stages[FINAL], roi.grid), roi.source)
    write_volume(paths.mask_path(results, name, patient.case), on_source)
    storage.write_arrays(paths.roi_labels_path(results, name, patient.case), {"labels": stages[FINAL]})
    signs = signs_of(vote.probability, vote.labels, stages[FINAL], roi.spacing_mm)
    storage.write_json(paths.signs_path(results, name, patient.case), asdict(signs))
    about = {"case": patient.case, "split": roi.split, "network": patient.candidate.network, "checkpoint": name}
    rows = [
        {**about, "stage": stage, **measures}
        for stage, measured in _measured(stages, roi).items()
        for measures in measured
    ]
    write_parquet(patient.part_path(roi.split), rows)


def _measured(stages: dict[str, LabelArray], roi: Roi) -> dict[str, list[Any]]:
    """The measures of each stage; equal labels are measured once."""
    known: list[tuple[LabelArray, list[Any]]] = []
    found: dict[str, list[Any]] = {}
    for stage, labels in stages.items():
        rows = next((rows for other, rows in known if np.array_equal(other, labels)), None)
        if rows is None:
            rows = [asdict(row) for row in measure(roi.label, labels, roi.spacing_mm)]
            known.append((labels, rows))
        found[stage] = rows
    return found
