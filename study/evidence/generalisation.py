"""Whether the choice on validation cases generalises: ranks of finalists, optimism of the tuning, cases needed.

Only finalists are measured on the test cases, so only they are ranked. The score of a finalist is the one by which the
study chooses: the mean Dice of the labels over all cases of a split after the final stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.config.labels import TUMOR
from renalnet.inference.post_processing import FINAL, NETWORK
from study.records.tables import Measurement
from study.report.analysis.statistics import Settings, rank_correlation

Scores: TypeAlias = dict[str, dict[str, float]]
"""Mean Dice of the labels by finalist and case, 0 to 1."""
_NUM_SUBSETS: Final = 2000
"""Random subsets of each size."""
_SIZES: Final = (3, 5, 8, 12, 16, 24, 32, 48, 64, 96, 128)
ENOUGH_LOSS: Final = 0.005
"""Mean loss of test Dice, by choosing on few cases, from which on more validation cases are not needed."""


@dataclass(frozen=True)
class Rank:
    """A finalist on both splits; rank 1 is the best."""

    finalist: str
    network: str
    validation: float
    """Mean Dice of the labels over the validation cases."""
    test: float
    validation_rank: int
    test_rank: int


@dataclass(frozen=True)
class Optimism:
    """What a finalist gains in tumor Dice by its post-processing, which is tuned on the validation cases."""

    finalist: str
    network: str
    validation_gain: float
    """Mean tumor Dice after the final stage minus that of the network alone, over the validation cases."""
    test_gain: float
    optimism: float
    """Gain on the validation cases minus gain on the test cases."""
    low: float
    """Bootstrap interval of the optimism, both splits drawn anew."""
    high: float


@dataclass(frozen=True)
class SubsetChoice:
    """The choice among all finalists on random subsets of the validation cases."""

    num_cases: int
    """Cases of a subset."""
    agreement: float
    """Share of the subsets that choose the finalist that all validation cases choose."""
    mean_loss: float
    """Mean test Dice that the choice loses against the finalist that is best on the test cases."""
    mean_correlation: float | None
    """Mean rank correlation of validation and test scores over the subsets; None for fewer than two finalists."""


def scores_of(rows: Sequence[Measurement], split: str, labels: LabelSet) -> Scores:
    """Return the scores of all finalists on the cases of a split."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.checkpoint and row.split == split and row.stage == FINAL and row.label in labels:
            values.setdefault((row.checkpoint, row.case), []).append(row.dice)
    scores: Scores = {}
    for (finalist, case), dice in sorted(values.items()):
        scores.setdefault(finalist, {})[case] = fmean(dice)
    return scores


def ranks_of(rows: Sequence[Measurement], labels: LabelSet) -> list[Rank]:
    """Return the finalists that were measured on both splits, by falling validation score."""
    networks = {row.checkpoint: row.network for row in rows}
    validation, test = (_means(scores_of(rows, split, labels)) for split in ("validation", "test"))
    both = sorted(validation.keys() & test.keys(), key=lambda name: (-validation[name], name))
    on_test = sorted(both, key=lambda name: (-test[name], name))
    return [
        Rank(name, networks[name], validation[name], test[name], place, 1 + on_test.index(name))
        for place, name in enumerate(both, start=1)
    ]


def _means(scores: Scores) -> dict[str, float]:
    return {name: fmean(by_case.values()) for name, by_case in scores.items()}


def optimisms_of(rows: Sequence[Measurement], settings: Settings) -> list[Optimism]:
    """Return the optimism of each finalist that was measured on both splits."""
    found = list[Optimism]()
    for name, network in dict.fromkeys((row.checkpoint, row.network) for row in rows if row.checkpoint):
        validation, test = (_gains(rows, name, split) for split in ("validation", "test"))
        if validation and test:
            found.append(_optimism(name, network, validation, test, settings))
    return found


def _gains(rows: Sequence[Measurement], finalist: str, split: str) -> list[float]:
    """Return the gain in tumor Dice of each case, in the order of the cases."""
    own = [row for row in rows if (row.checkpoint, row.split, row.label) == (finalist, split, TUMOR)]
    alone, final = ({row.case: row.dice for row in own if row.stage == stage} for stage in (NETWORK, FINAL))
    return [final[case] - alone[case] for case in sorted(alone.keys() & final.keys())]


def _optimism(
    finalist: str, network: str, validation: Sequence[float], test: Sequence[float], settings: Settings
) -> Optimism:
    generator = np.random.default_rng(settings.seed)
    drawn = _drawn_means(validation, generator, settings) - _drawn_means(test, generator, settings)
    tail = (1 - settings.confidence) / 2
    low, high = (float(bound) for bound in np.quantile(drawn, [tail, 1 - tail]))
    gain, test_gain = fmean(validation), fmean(test)
    return Optimism(finalist, network, gain, test_gain, gain - test_gain, low, high)


def _drawn_means(values: Sequence[float], generator: np.random.Generator, settings: Settings) -> NDArray[np.float64]:
    places = generator.integers(0, len(values), size=(settings.resamples, len(values)))
    means: NDArray[np.float64] = np.asarray(values, dtype=np.float64)[places].mean(axis=1)
    return means


def subset_choices(rows: Sequence[Measurement], labels: LabelSet, seed: int = 0) -> list[SubsetChoice]:
    """Return how well subsets of the validation cases choose; empty for fewer than two finalists.

    Subsets are drawn without replacement, so the largest one, all cases, shows the choice of the study.

    Args:
        rows: measurements of both splits.
        labels: labels of the study.
        seed: seed of the subsets.
    """
    validation, test = (scores_of(rows, split, labels) for split in ("validation", "test"))
    names = sorted(validation.keys() & test.keys())
    if len(names) < 2:
        return []
    cases = sorted(set.intersection(*(set(validation[name]) for name in names)))
    table = np.array([[validation[name][case] for case in cases] for name in names])
    on_test = np.array([fmean(test[name].values()) for name in names])
    sizes = [*(size for size in _SIZES if size < len(cases)), len(cases)]
    generator = np.random.default_rng(seed)
    return [_choice(table, on_test, size, generator) for size in sizes]


def _choice(
    table: NDArray[np.float64], on_test: NDArray[np.float64], size: int, generator: np.random.Generator
) -> SubsetChoice:
    """Return the outcome of choosing on subsets of a size; `table` has a row a finalist and a column a case."""
    num_cases = table.shape[1]
    # The places of the smallest of random numbers are a subset without replacement.
    subsets = generator.random((_NUM_SUBSETS, num_cases)).argsort(axis=1)[:, :size]
    means = table[:, subsets].mean(axis=2)
    chosen = means.argmax(axis=0)
    correlations = [rank_correlation(column.tolist(), on_test.tolist()) for column in means.T[:: _NUM_SUBSETS // 200]]
    known = [value for value in correlations if value is not None]
    return SubsetChoice(
        num_cases=size,
        agreement=float((chosen == table.mean(axis=1).argmax()).mean()),
        mean_loss=float((on_test.max() - on_test[chosen]).mean()),
        mean_correlation=fmean(known) if known else None,
    )


def enough_cases(choices: Sequence[SubsetChoice]) -> int | None:
    """Return the least number of validation cases from which on the mean loss stays near that of all cases.

    The loss of all cases itself is not a matter of their number. The result is None without choices.
    """
    if not choices:
        return None
    floor = choices[-1].mean_loss
    for place, choice in enumerate(choices):
        if all(later.mean_loss - floor <= ENOUGH_LOSS for later in choices[place:]):
            return choice.num_cases
    return choices[-1].num_cases


def correlation_of(ranks: Sequence[Rank]) -> float | None:
    """Return Spearman's rank correlation of validation and test scores over the finalists; None for fewer than two."""
    return rank_correlation([rank.validation for rank in ranks], [rank.test for rank in ranks])
