"""The jobs of the final stage: the vote of a finalist on one case, and the post-processing and measurement after it.

A job reads what it needs from the store and the results folder and writes its result there. So any process may run it,
and an interrupted stage resumes case by case.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet, StitchConfig
from renalnet.data.images.volume import Volume, write_volume
from renalnet.data.store.reader import Roi, open_store
from renalnet.evaluation.mask_quality import signs_of
from renalnet.evaluation.rows import LabelMeasures
from renalnet.evaluation.table import measure
from renalnet.inference.pipeline import Model, load_ensemble, vote_roi
from renalnet.inference.post_processing import FINAL, Evidence, PostProcessing, stages_of
from renalnet.inference.scan_labels import labels_on_scan
from renalnet.inference.stitching import Stitched
from renalnet.runtime import storage
from renalnet.types import FloatArray, LabelArray
from study.finalists.finalists import Finalist
from study.records.files import read_named_arrays
from study.records.parquet import write_rows
from study.records.results import Results
from study.records.tables import StageMeasurement

Done = TypeVar("Done")
Job = TypeVar("Job")
_HALF_STEP: Final = np.float32(2**-11)
"""Distance from 1 to the next lower half-precision number."""


@dataclass(frozen=True)
class FinalCase:
    """One case and one finalist."""

    results: Results
    """Results folder of the study."""
    store: str
    """Path of the store."""
    case: str
    """Name of the case."""
    finalist: Finalist
    """The finalist that segments it."""
    label_set: LabelSet
    """Labels of the store."""

    def __str__(self) -> str:
        return f"case {self.case} ({self.finalist.name})"

    def part_name(self, split: str) -> str:
        """Return the name of the file with the measurements. If it exists, the case is done."""
        # With the digest, so that measurements of other weights or settings are not taken for these.
        return f"{split}-{self.finalist.name}-{self.finalist.digest}-{self.case}.parquet"

    def part_path(self, split: str) -> str:
        """Return the path of the file with the measurements."""
        return self.results.part_path(self.part_name(split))

    def file_names(self, split: str) -> tuple[str, ...]:
        """Return the names of the masks, their signs and the measurements, relative to the results folder."""
        place = f"{self.finalist.name}/{self.case}"
        masks = (f"final/masks/{place}.nii.gz", f"final/roi_labels/{place}.npz")
        return (*masks, f"final/signs/{place}.json", f"final/parts/{self.part_name(split)}")

    @property
    def vote_name(self) -> str:
        """Name of the file with the vote."""
        return f"{self.finalist.name}-{self.finalist.digest}-{self.case}.npz"

    @property
    def vote_path(self) -> str:
        """Path of the vote, which is kept until the post-processing of the finalist is chosen."""
        return self.results.vote_path(self.vote_name)

    def roi(self) -> Roi:
        """Read the image and the true label map from the store."""
        return open_store(self.store).read(self.case)


# Without `==`, because the comparison of two arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class CompactVote:
    """A vote with half-precision probabilities, to send to another process and to keep in a file."""

    labels: LabelArray
    """Voted labels (z, y, x)."""
    probability: NDArray[np.float16]
    """Mean probabilities (class, z, y, x), 0 to 1."""

    @classmethod
    def of(cls, vote: Stitched) -> "CompactVote":
        """Return a vote with its probabilities rounded to half precision."""
        return cls(vote.labels, vote.probability.astype(np.float16))

    def expanded(self) -> Stitched:
        """Return the vote in single precision, with the voted class as the most probable one.

        Rounding can make classes equal. There, the probability of the voted class is raised by one rounding step.
        """
        probability = self.probability.astype(np.float32)
        # Rounding keeps the order of numbers, so a voted class is lost only to an equal one, which argmax finds first.
        lost = probability.argmax(axis=0) != self.labels
        where = np.nonzero(lost)
        probability[(self.labels[lost], *where)] += _HALF_STEP
        return Stitched(self.labels, probability)


class Work(Protocol):
    """Runs jobs, in this process or on a cluster."""

    def vote(
        self, cases: Sequence[FinalCase], stitch: StitchConfig, then: Callable[[FinalCase, CompactVote], Done]
    ) -> Iterator[Done]:
        """Run `cast_vote` on each case where networks run, then `then` on a processor. Yield results in order."""
        ...

    def apply(self, function: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """Run a function on each job on a processor. Yield results in order."""
        ...


def cast_vote(case: FinalCase, stitch: StitchConfig) -> CompactVote:
    """Return the joint vote of a finalist's networks on a case."""
    # A tuple, because the arguments of a cached function must be hashable.
    folders = tuple(case.results.trial_folder(name) for name in case.finalist.members)
    model = _loaded(folders, case.finalist.digest)
    return CompactVote.of(vote_roi(model, case.roi().image, stitch))


@lru_cache(maxsize=1)  # a process votes on many cases with one finalist
def _loaded(folders: tuple[str, ...], _digest: str) -> Model:
    """Load the networks in some folders; the digest tells apart other weights in the same folders."""
    return load_ensemble(folders)


def write_vote(case: FinalCase, vote: CompactVote) -> None:
    """Write a vote for `read_vote`."""
    # Votes are read once and then deleted, and compression takes longer than writing them.
    storage.write_arrays(case.vote_path, {"labels": vote.labels, "probability": vote.probability}, is_compressed=False)


def read_vote(case: FinalCase) -> CompactVote:
    """Read the vote that `write_vote` wrote. Raises ResultsError if it is damaged."""
    arrays = read_named_arrays(case.vote_path, ("labels", "probability"))
    return CompactVote(arrays["labels"], arrays["probability"])


def finish_kept(case: FinalCase, post_processing: PostProcessing) -> None:
    """Run `finish` on the vote that `write_vote` wrote."""
    finish(case, read_vote(case), post_processing)


def finish(case: FinalCase, compact: CompactVote, post_processing: PostProcessing) -> None:
    """Post-process a vote; write the final masks, their signs of quality and the measurements of all stages.

    The measurements are written last, because their file marks the case as done.
    """
    roi = case.roi()
    vote = compact.expanded()
    stages = stages_of(
        vote.labels, Evidence(vote.probability, roi.image, roi.spacing_mm, case.label_set), post_processing
    )
    _write_masks(case, roi, stages[FINAL], vote.probability)
    signs = signs_of(vote.probability, vote.labels, stages[FINAL], roi.spacing_mm, case.label_set)
    storage.write_json(case.results.signs_path(case.finalist.name, case.case), asdict(signs))
    write_rows(case.part_path(roi.split), _measurements(case, roi, stages))


def _write_masks(case: FinalCase, roi: Roi, labels: LabelArray, probability: FloatArray) -> None:
    # The mask on the scan's grid is for users. Views, quality and planning sheets read the one on the ROI's grid,
    # so that they need no resampling.
    on_source = labels_on_scan(labels, probability, roi.grid, roi.source)
    write_volume(case.results.mask_path(case.finalist.name, case.case), Volume(on_source, roi.source))
    storage.write_arrays(case.results.roi_labels_path(case.finalist.name, case.case), {"labels": labels})


def _measurements(case: FinalCase, roi: Roi, stages: dict[str, LabelArray]) -> list[StageMeasurement]:
    return [
        StageMeasurement(
            case=case.case,
            split=roi.split,
            network=case.finalist.network,
            checkpoint=case.finalist.name,
            stage=stage,
            **asdict(measures),
        )
        for stage, measured in _measured(stages, roi, case.label_set).items()
        for measures in measured
    ]


def _measured(stages: dict[str, LabelArray], roi: Roi, label_set: LabelSet) -> dict[str, list[LabelMeasures]]:
    """Return the measures by stage. Stages with equal labels are measured once, because distances take seconds."""
    # A list, because arrays cannot be keys of a dictionary.
    known: list[tuple[LabelArray, list[LabelMeasures]]] = []
    found: dict[str, list[LabelMeasures]] = {}
    for stage, labels in stages.items():
        rows = next((rows for other, rows in known if np.array_equal(other, labels)), None)
        if rows is None:
            rows = list(measure(roi.label, labels, roi.spacing_mm, label_set))
            known.append((labels, rows))
        found[stage] = rows
    return found
