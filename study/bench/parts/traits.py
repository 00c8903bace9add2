"""Size and place of the tumors of the test cases, by which effects are divided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from renalnet.data.store.reader import Store, open_store
from renalnet.planning.kidneys import find_kidneys
from renalnet.planning.sheet import measure_kidney
from renalnet.planning.tumor import Tumor
from renalnet.runtime import storage
from renalnet.runtime.workers import JobPool
from study.records.parquet import read_rows, write_rows

_SMALL_MM: Final = 40.0
_LARGE_MM: Final = 70.0
"""Largest diameters of tumors of R.E.N.A.L. with one and with two points (Kutikov and Uzzo, 2009)."""


@dataclass(frozen=True)
class Traits:
    """Size and place of the largest tumor of a case."""

    case: str
    diameter_mm: float
    """Largest diameter."""
    c_index: float
    """Distance of the tumor's centre from the kidney's over the tumor's radius; a smaller value is more central."""
    polar_points: int
    """L of R.E.N.A.L.: 1 wholly beyond a polar line, 2 across one, 3 mostly between the two or across the middle."""


def traits(work: str, store: Store, pool: JobPool) -> list[Traits]:
    """Return the traits of the test cases with a tumor, measured once on their label maps."""
    path = storage.join(work, "traits.parquet")
    if not storage.exists(path):
        found = pool.map(partial(_traits_of, store.path), store.cases("test"))
        write_rows(path, [each for each in found if each])
    return read_rows(path, Traits)


def _traits_of(store: str, case: str) -> Traits | None:
    """Return the traits of a case; None without a tumor beside a kidney."""
    opened = open_store(store)
    roi = opened.read(case)
    sheets = [measure_kidney(kidney) for kidney in find_kidneys(roi.label, roi.spacing_mm, opened.labels)]
    tumors = [sheet.tumor for sheet in sheets if sheet.tumor]
    if not tumors:
        return None
    tumor: Tumor = max(tumors, key=lambda each: each.volume_ml)
    return Traits(case, tumor.diameter_3d_mm, tumor.c_index, tumor.polar.points)


def subsets(found: Sequence[Traits]) -> Mapping[str, frozenset[str]]:
    """Return the cases of each subset by size and place, by its title.

    Central tumors are the half with the smaller C-index: no limit of another definition applies to this one.
    """
    middle = median(each.c_index for each in found) if found else 0.0
    rules: dict[str, Callable[[Traits], bool]] = {
        f"tumors up to {_SMALL_MM:g} mm": lambda each: each.diameter_mm <= _SMALL_MM,
        f"tumors of {_SMALL_MM:g} to {_LARGE_MM:g} mm": lambda each: _SMALL_MM < each.diameter_mm <= _LARGE_MM,
        f"tumors above {_LARGE_MM:g} mm": lambda each: each.diameter_mm > _LARGE_MM,
        "central tumors": lambda each: each.c_index <= middle,
        "peripheral tumors": lambda each: each.c_index > middle,
        "tumors at a pole": lambda each: each.polar_points == 1,
        "tumors across a polar line": lambda each: each.polar_points == 2,
        "tumors between the polar lines": lambda each: each.polar_points == 3,
    }
    return {title: frozenset(each.case for each in found if rule(each)) for title, rule in rules.items()}
