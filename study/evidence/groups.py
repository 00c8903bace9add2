"""The methods over groups of test cases: by collection of label maps, by volume of the tumor, by its contrast."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from renalnet.config import LabelSet
from renalnet.config.labels import KIDNEY, TUMOR
from renalnet.data.store.reader import Store
from renalnet.evaluation.detection import Rate, by_patient
from study.records.tables import APPENDIX, Measurement
from study.report.analysis.methods import Method, method_of, method_place
from study.report.analysis.statistics import Estimate, Settings, estimate

TOGETHER: Final = "together"
"""Name of the group of all test cases."""
LARGE_ML: Final = 2.0
"""Volume from which on a tumor counts in the sensitivity for larger tumors; the paper's have 2.1 ml and more."""
VOLUME_BOUNDS_ML: Final = (0.0, 2.0, 10.0, 50.0, float("inf"))
"""Bounds of the groups by volume of the tumor."""
_NUM_CONTRASTS: Final = 3


@dataclass(frozen=True)
class GroupResult:
    """A method over a group of test cases."""

    group: str
    """Name of the group."""
    method: Method
    num_cases: int
    dice_tumor: Estimate | None
    """Over the cases with a tumor; None without such a case."""
    dice_kidney: Estimate
    sensitivity: Rate
    """Share of the cases with a tumor in which it was found."""
    sensitivity_large: Rate
    """The same for tumors of `LARGE_ML` and more."""
    specificity: Rate
    """Share of the cases without a tumor in which none was predicted."""


def group_results(
    final: Sequence[Measurement], groups: Mapping[str, Sequence[str]], settings: Settings
) -> list[GroupResult]:
    """Return the results of each method in each group, the appendix left out, in the order of the tables.

    Args:
        final: measurements on the test cases after the final stage.
        groups: cases of each group by its name. A group without measured cases has no rows.
        settings: of the intervals.
    """
    found = list[GroupResult]()
    for group, cases in groups.items():
        members = set(cases)
        for method, rows in _by_method(row for row in final if row.case in members):
            found.append(_result(group, method, rows, settings))
    return found


def _by_method(rows: Iterable[Measurement]) -> list[tuple[Method, list[Measurement]]]:
    found: dict[Method, list[Measurement]] = {}
    for row in rows:
        if row.role != APPENDIX:
            found.setdefault(method_of(row), []).append(row)
    return sorted(found.items(), key=lambda pair: method_place(pair[0]))


def _result(group: str, method: Method, rows: Sequence[Measurement], settings: Settings) -> GroupResult:
    tumors = [row for row in rows if row.label == TUMOR]
    diseased = [row for row in tumors if not row.truth_empty]
    large = [row for row in diseased if row.volume_truth_ml >= LARGE_ML]
    kidney = estimate([row.dice for row in rows if row.label == KIDNEY], settings)
    assert kidney  # each case has a kidney
    both = by_patient(_found(diseased), [not row.pred_empty for row in tumors if row.truth_empty])
    return GroupResult(
        group=group,
        method=method,
        num_cases=len(tumors),
        dice_tumor=estimate([row.dice for row in diseased], settings),
        dice_kidney=kidney,
        sensitivity=both.sensitivity,
        sensitivity_large=by_patient(_found(large), []).sensitivity,
        specificity=both.specificity,
    )


def _found(rows: Iterable[Measurement]) -> list[bool]:
    return [bool(row.found) for row in rows]


def volume_groups(final: Iterable[Measurement]) -> dict[str, list[str]]:
    """Return the test cases with a tumor by the volume of the tumor; groups without cases are left out."""
    volumes_ml = {row.case: row.volume_truth_ml for row in final if row.label == TUMOR and not row.truth_empty}
    groups: dict[str, list[str]] = {}
    for low, high in pairwise(VOLUME_BOUNDS_ML):
        name = f"{low:g} ml and more" if high == float("inf") else f"{low:g} to {high:g} ml"
        if cases := [case for case, volume_ml in volumes_ml.items() if low <= volume_ml < high]:
            groups[name] = cases
    return groups


def contrasts_hu(store: Store) -> dict[str, float]:
    """Return the mean CT number of the tumor minus that of the kidney, in HU, of each test case that has both."""
    return dict(_contrasts(store, store.labels))


def _contrasts(store: Store, labels: LabelSet) -> Iterator[tuple[str, float]]:
    for roi in map(store.read, store.cases("test")):
        tumor = roi.image[roi.label == labels.tumor.value]
        kidney = roi.image[roi.label == labels.kidney.value]
        if tumor.size and kidney.size:
            yield roi.case, float(tumor.mean() - kidney.mean())


def contrast_groups(contrasts: Mapping[str, float]) -> dict[str, list[str]]:
    """Return the cases by thirds of the size of their contrast, in HU; fewer groups for fewer than three cases."""
    ranked = sorted(contrasts, key=lambda case: (abs(contrasts[case]), case))
    thirds = [part.tolist() for part in np.array_split(np.array(ranked, dtype=object), _NUM_CONTRASTS) if part.size]
    return {_range_hu([abs(contrasts[case]) for case in cases]): cases for cases in thirds}


def _range_hu(sizes: Sequence[float]) -> str:
    return f"{min(sizes):.0f} to {max(sizes):.0f} HU"
