"""Means of all declared measures by method and label. A measure added in `renalnet.evaluation.rows` appears here."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from renalnet.evaluation.rows import SHOWN
from study.records.tables import APPENDIX, Measurement
from study.report.analysis.methods import Method, method_of, method_place


@dataclass(frozen=True)
class LabelMeans:
    """Means of a method over the test cases for one label of the study or class of the KiTS challenge."""

    method: Method
    label: str
    num_cases: int
    means: dict[str, float | None]
    """By name of the measure, in the order of the declared ones; None where the measure applies to no case."""


def label_means(final: Iterable[Measurement]) -> list[LabelMeans]:
    """Return the means of each method and label, in the order of the rows."""
    groups: dict[tuple[Method, str], list[Measurement]] = {}
    for row in final:
        groups.setdefault((method_of(row), row.label), []).append(row)
    return [
        LabelMeans(method, label, len(rows), {name: _mean(rows, name) for name in SHOWN})
        for (method, label), rows in groups.items()
    ]


def compared_means(final: Iterable[Measurement]) -> list[LabelMeans]:
    """Return the means without the appendix, in the order of Table I."""
    compared = [row for row in label_means(final) if row.method.role != APPENDIX]
    return sorted(compared, key=lambda row: method_place(row.method))


def _mean(rows: Iterable[Measurement], name: str) -> float | None:
    # None: the measure does not apply to the case, or an earlier version did not write it.
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    return fmean(values) if values else None
