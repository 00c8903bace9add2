"""The headline numbers of a lesion: Dice over the cases that have it, how many were found, and how many false alarms.

The mean Dice over all cases is no headline: it counts 1 for each case without the lesion in which none was predicted,
so it rises with the share of healthy kidneys. Report, terminal, model card and manifest take these numbers from here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from renalnet.config import Label, LabelSet
from renalnet.config.labels import with_article
from renalnet.evaluation.rows import LabelMeasures
from renalnet.inference.post_processing import FINAL
from study.records.tables import WINNER, Measurement


@dataclass(frozen=True)
class Headline:
    """A lesion over the cases of one split, by one method."""

    lesion: Label
    dice: float | None
    """Mean Dice over the cases with the lesion, 0 to 1; None where no case has it."""
    distance_mm: float | None
    """Mean surface distance over the same cases."""
    num_with: int
    """Number of cases with the lesion."""
    num_found: int
    """Cases among these in which it was found (`LabelMeasures.found`)."""
    num_empty: int
    """Cases among these in which no voxel of it was predicted."""
    num_without: int
    """Number of cases without the lesion."""
    num_alarms: int
    """Cases among these in which it was predicted."""

    @property
    def text(self) -> str:
        """Dice, detection and false alarms as one sentence without a full stop."""
        name = self.lesion.title
        if not self.num_with:
            return f"no test case has {with_article(name)}, so nothing is known of how it is found; {self._alarms}"
        cases = "test case" if self.num_with == 1 else f"{self.num_with} test cases"
        dice = f"Dice {name} {self.dice:.3f} over the {cases} with {with_article(name)}"
        found = f"found in {self.num_found} of {self.num_with}, none predicted in {self.num_empty}"
        return f"{dice}; {found}; {self._alarms}"

    @property
    def _alarms(self) -> str:
        if not self.num_without:
            return "false alarms are not known, since every test case has one"
        return f"false alarms in {self.num_alarms} of {self.num_without} without one"

    @property
    def has_failed(self) -> bool:
        """Whether there were lesions to find and none was found."""
        return bool(self.num_with) and not (self.num_found and self.dice)


def headline_of(rows: Iterable[LabelMeasures], lesion: Label) -> Headline:
    """Return the headline of a lesion from rows of one method, of which only those of the lesion are read."""
    own = [row for row in rows if row.label == lesion.name]
    diseased = [row for row in own if not row.truth_empty]
    healthy = [row for row in own if row.truth_empty]
    return Headline(
        lesion,
        dice=_mean([row.dice for row in diseased]),
        distance_mm=_mean([row.surface_distance_mm for row in diseased]),
        num_with=len(diseased),
        num_found=sum(bool(row.found) for row in diseased),
        num_empty=sum(row.pred_empty for row in diseased),
        num_without=len(healthy),
        num_alarms=sum(not row.pred_empty for row in healthy),
    )


def winner_rows(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Return the winner's rows on the test cases after the whole inference."""
    return [row for row in measurements if (row.role, row.split, row.stage) == (WINNER, "test", FINAL)]


def failures(winner: Sequence[LabelMeasures], labels: LabelSet) -> list[str]:
    """Return a sentence where the winner finds no tumor or no kidney at all; empty where it finds both.

    Args:
        winner: the winner's rows on the test cases (`winner_rows`).
        labels: labels of the study.
    """
    tumor = headline_of(winner, labels.tumor)
    kidneys = [row for row in winner if row.label == labels.kidney.name]
    found = []
    if tumor.has_failed:
        found.append(_failure(f"it found none of the {tumor.num_with} tumors of the test cases", tumor.dice or 0.0))
    if kidneys and not any(row.dice for row in kidneys):
        found.append(_failure(f"it found none of the {len(kidneys)} kidneys of the test cases", 0.0))
    return found


def _failure(what: str, dice: float) -> str:
    return (
        f"the study has failed: its winner segments nothing of use, {what} (Dice {dice:.3f}); do not use best/; search "
        "with more trials, longer ones or more cases"
    )


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
