"""The facts of many cases as one compact table of a few hundred bytes per case."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.checks.facts import CaseFacts
from renalnet.data.checks.signature import LENGTH
from renalnet.types import Split

_ROW: Final = np.dtype(
    [
        ("image_digest", "S64"),
        ("label_digest", "S64"),
        ("signature", "u1", (LENGTH,)),
        ("spacing_mm", "f4", (3,)),
        ("num_slices", "i4"),
        ("is_cut", "?"),
        ("oblique", "?"),
        ("phase", "U10"),  # as long as "unenhanced"
        ("kidney_hu", "f4"),
        ("tumor_hu", "f4"),
        ("tumor_ml", "f4"),
        ("num_tumors", "i4"),
        ("roi_ml", "f4"),
        ("roi_kidney_ml", "f4"),
        ("roi_tumor_ml", "f4"),
    ]
)
"""The columns, each named as its field of `CaseFacts`."""
_NO_SIGNATURE: Final = bytes(LENGTH)
"""Stands for the signature of a case without label."""


@dataclass(frozen=True)
class CohortFacts:
    """The facts that the checks and the summary of a cohort read; row by row in the order of `cases`."""

    cases: list[str]
    splits: list[Split]
    rows: NDArray[Any]
    """A structured array of fields of `CaseFacts`; None becomes NaN."""

    def __len__(self) -> int:
        return len(self.cases)

    def column(self, name: str) -> NDArray[Any]:
        """Return one field of all cases, shape (cases, ...)."""
        return np.asarray(self.rows[name])

    def in_split(self, split: Split) -> NDArray[np.bool_]:
        """Return whether each case belongs to a split, shape (cases,)."""
        return np.array([one == split for one in self.splits], bool)


def gather(facts: Iterable[CaseFacts], splits: Mapping[str, Split]) -> CohortFacts:
    """Return the table of `facts`, which are iterated once; `splits` maps each case to its split."""
    cases: list[str] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for one in facts:
            # `facts` can be iterated only once, so the names are collected while NumPy reads the rows.
            cases.append(one.case)
            yield tuple(_cell(one, name) for name in _ROW.names or ())

    table = np.fromiter(rows(), _ROW)
    # `cases` is complete only now that the generator is used up.
    return CohortFacts(cases, [splits[case] for case in cases], table)


def _cell(facts: CaseFacts, name: str) -> Any:
    value = getattr(facts, name)
    if name == "signature":
        return np.frombuffer(bytes.fromhex(value) or _NO_SIGNATURE, np.uint8)
    return np.nan if value is None else value
