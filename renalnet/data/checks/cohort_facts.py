"""The facts of many cases as one compact table: a few hundred bytes a case, whatever their number."""

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
        ("phase", "U10"),
        ("kidney_hu", "f4"),
        ("tumor_hu", "f4"),
        ("tumor_ml", "f4"),
        ("num_tumors", "i4"),
        ("roi_ml", "f4"),
        ("roi_kidney_ml", "f4"),
        ("roi_tumor_ml", "f4"),
    ]
)
_NOTHING: Final = bytes(LENGTH)


@dataclass(frozen=True)
class CohortFacts:
    """What the checks and the table of a cohort read, in the order of the cases given."""

    cases: list[str]
    splits: list[Split]
    rows: NDArray[Any]
    """A structured array of the fields of `CaseFacts`; a mean that is none is NaN."""

    def __len__(self) -> int:
        return len(self.cases)

    def column(self, name: str) -> NDArray[Any]:
        """One field of all cases."""
        return np.asarray(self.rows[name])

    def in_split(self, split: Split) -> NDArray[np.bool_]:
        """Which cases belong to a split."""
        return np.array([one == split for one in self.splits], bool)


def gather(facts: Iterable[CaseFacts], splits: Mapping[str, Split]) -> CohortFacts:
    """Gather facts in one pass; `splits` names the split of each case."""
    cases: list[str] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for one in facts:
            cases.append(one.case)
            yield tuple(_cell(one, name) for name in _ROW.names or ())

    table = np.fromiter(rows(), _ROW)
    return CohortFacts(cases, [splits[case] for case in cases], table)


def _cell(facts: CaseFacts, name: str) -> Any:
    value = getattr(facts, name)
    if name == "signature":
        return np.frombuffer(bytes.fromhex(value) or _NOTHING, np.uint8)
    return np.nan if value is None else value
