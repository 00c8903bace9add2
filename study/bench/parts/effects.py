"""Effects of the parts: paired differences to the reference with intervals, and what each part costs."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.evaluation.part_effects import ALL_CASES, PartEffect
from renalnet.types import Split
from study.bench.parts.catalogue import REFERENCE, Part, Reading
from study.bench.parts.runs import Score

Values = NDArray[np.float64]
_RESAMPLES: Final = 4000
_TAIL: Final = 0.025
"""Share of the resamples beyond each end of an interval of 95 %."""
_BOOTSTRAP_SEED: Final = 0


@dataclass(frozen=True)
class Difference:
    """Mean paired difference of a part to the reference, and its bootstrap interval of 95 %."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """What a training run and its inference take."""

    step_s: float
    """Time of a training step; the median over epochs and seeds."""
    memory_mb: float
    """Mebibytes of activations kept for the backward pass of a batch, in float32."""
    num_parameters: int


class Table:
    """Dice values of a split: one value for each seed and case of a network and reading."""

    def __init__(self, scores: Sequence[Score]) -> None:
        self._scores = {(score.run, score.reading, score.seed, score.case): score for score in scores}
        self.seeds = sorted({score.seed for score in scores})
        self.cases = sorted({score.case for score in scores})
        self.with_tumor = frozenset(score.case for score in scores if score.has_tumor)

    def values(self, run: str, reading: Reading, of: Callable[[Score], float], cases: Collection[str]) -> Values:
        """Return the values (seeds, cases) of a run, with the cases in the order of their names."""
        rows = [[of(self._scores[run, reading.name, seed, case]) for case in sorted(cases)] for seed in self.seeds]
        return np.array(rows, dtype=np.float64).reshape(len(self.seeds), len(cases))

    def objective(self, run: str, reading: Reading) -> float:
        """Return the mean Dice of kidney and tumor over all cases and seeds."""
        return float(self.values(run, reading, objective_of, self.cases).mean())


def objective_of(score: Score) -> float:
    """Return the mean Dice of kidney and tumor."""
    return (score.kidney + score.tumor) / 2


def choose(table: Table, parts: Sequence[Part]) -> dict[str, str]:
    """Return the part with the highest mean objective by choice; the reference where no part is better than it.

    Args:
        table: of the validation cases.
        parts: parts of all choices.
    """
    chosen: dict[str, str] = {}
    best: dict[str, float] = {}
    for part in parts:
        gain = table.objective(part.run, part.reading) - table.objective(REFERENCE, part.against)
        if gain > best.get(part.choice, 0.0):
            best[part.choice] = gain
            chosen[part.choice] = part.name
        chosen.setdefault(part.choice, REFERENCE)
    return chosen


def effects(
    table: Table,
    split: Split,
    parts: Sequence[Part],
    subsets: Mapping[str, Collection[str]],
    costs: Mapping[str, Cost],
    chosen: Mapping[str, str],
) -> Iterator[PartEffect]:
    """Yield the effect of each part on each subset of the cases that has a patient with a tumor.

    Args:
        table: Dice values of the split.
        split: name of the split.
        parts: parts to compare with the reference.
        subsets: names of cases by the title of the subset; all cases are a subset of their own.
        costs: by name of the networks.
        chosen: name of the part that the validation cases choose, by choice.
    """
    for part in parts:
        for title, cases in {ALL_CASES: table.cases, **subsets}.items():
            if table.with_tumor.intersection(cases):
                yield _effect(table, split, part, title, cases, costs, chosen[part.choice] == part.name)


def _effect(
    table: Table,
    split: Split,
    part: Part,
    title: str,
    cases: Collection[str],
    costs: Mapping[str, Cost],
    is_chosen: bool,
) -> PartEffect:
    patients = table.with_tumor.intersection(cases)

    def compared(name: str, of: Callable[[Score], float], some: Collection[str]) -> dict[str, Any]:
        own = table.values(part.run, part.reading, of, some)
        found = difference(own - table.values(REFERENCE, part.against, of, some))
        return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}

    def mean(run: str, reading: Reading, of: Callable[[Score], float]) -> float:
        return float(table.values(run, reading, of, patients).mean())

    return PartEffect(
        part=part.name,
        choice=part.choice,
        title=part.title,
        split=split,
        cases=title,
        num_patients=len(patients),
        num_seeds=len(table.seeds),
        is_chosen=is_chosen,
        reference_tumor=mean(REFERENCE, part.against, _tumor_of),
        **compared("tumor", _tumor_of, patients),
        **compared("kidney", _kidney_of, patients),
        **compared("objective", objective_of, cases),
        case_s=mean(part.run, part.reading, _seconds_of),
        reference_case_s=mean(REFERENCE, part.against, _seconds_of),
        **asdict(costs[part.run]),
        **{f"reference_{name}": value for name, value in asdict(costs[REFERENCE]).items()},
    )


def _tumor_of(score: Score) -> float:
    return score.tumor


def _kidney_of(score: Score) -> float:
    return score.kidney


def _seconds_of(score: Score) -> float:
    return score.seconds


def difference(paired: Values) -> Difference:
    """Return the mean of paired differences (seeds, patients), and its percentile interval of 95 %.

    Seeds and patients are drawn with replacement, each independently of the other, so that both kinds of chance count.
    Each draw of a patient has the differences of all drawn seeds.
    """
    num_seeds, num_patients = paired.shape
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    seeds = _counts(generator, num_seeds)
    patients = _counts(generator, num_patients)
    means = np.einsum("rs,sp,rp->r", seeds, paired, patients, optimize=True) / paired.size
    low, high = np.quantile(means, [_TAIL, 1 - _TAIL])
    return Difference(float(paired.mean()), float(low), float(high))


def _counts(generator: np.random.Generator, number: int) -> Values:
    """Return how often each of `number` things is drawn, (resamples, number)."""
    drawn = generator.multinomial(number, np.full(number, 1 / number), size=_RESAMPLES)
    counts: Values = drawn.astype(np.float64)
    return counts
