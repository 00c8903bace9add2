"""Planning sheets of mask files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renalnet.config import KIDNEY_TUMOR, LabelSet
from renalnet.config.label_columns import flat
from renalnet.data.images.mask_files import find_masks, read_mask
from renalnet.data.images.volume import Volume, canonical
from renalnet.errors import InputError
from renalnet.evaluation.mask_pairs import Pair, read_pair
from renalnet.evaluation.plausibility import implausible
from renalnet.planning.kidneys import Kidney, find_kidneys
from renalnet.planning.rows import measures_of, spread_of
from renalnet.planning.sheet import MARGIN_MM, Sheet, measure_kidney


@dataclass(frozen=True)
class Plan:
    """Planning sheets of the kidneys of one mask."""

    mask: Path
    """File of the mask."""
    sheets: list[Sheet]
    """One sheet per kidney; no sheets for an empty mask."""
    spreads: list[dict[str, tuple[float, float]]]
    """For each sheet, lowest and highest value by measure over this mask and other masks of the scan; empty without
    other masks."""
    warnings: list[tuple[str, ...]]
    """For each sheet, a line for each measure that is implausible for a kidney (`evaluation.plausibility`)."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per kidney: the mask's path, the measures, and their bounds where there are several masks."""
        for sheet, spread, warnings in zip(self.sheets, self.spreads, self.warnings, strict=True):
            bounds = {
                f"{name}_{end}": value
                for name, both in spread.items()
                for end, value in zip(("least", "most"), both, strict=True)
            }
            yield {"mask": str(self.mask), **flat(measures_of(sheet)), **bounds, "warnings": "; ".join(warnings)}


def masks_of(paths: Sequence[Path]) -> list[Path]:
    """Return the mask files among the paths and in the folders among them. Raises InputError where there is none."""
    return [mask for path in paths for mask in (find_masks(path).values() if path.is_dir() else [path])]


def plan_mask(
    path: str | Path,
    others: Sequence[str | Path] = (),
    margin_mm: float = MARGIN_MM,
    *,
    labels: LabelSet = KIDNEY_TUMOR,
) -> Plan:
    """Return the planning sheets of a mask file, one per kidney.

    Args:
        path: file of the mask; it is measured on its own grid.
        others: files of other masks of the same scan, such as those of an ensemble's members, for the spread.
        margin_mm: parenchyma closer to the tumor than this does not remain.
        labels: meaning of the masks' values.

    Raises:
        InputError: a mask cannot be read or holds other labels, or another mask has other kidneys or
            another grid. A segmentation of 3D Slicer may cover only a part of the other mask's grid.
    """
    path = Path(path)
    mask = read_mask(path, labels)
    kidneys = find_kidneys(mask.array, mask.grid.spacing_mm, labels)
    sheets = [measure_kidney(kidney, margin_mm) for kidney in kidneys]
    warnings = [_implausible(kidney) for kidney in kidneys]
    if not others:
        return Plan(path, sheets, [{} for _ in sheets], warnings)
    alike = [sheets, *(_sheets_like(path, Path(other), margin_mm, sheets, labels) for other in others)]
    return Plan(path, sheets, [spread_of(of_kidney) for of_kidney in zip(*alike, strict=True)], warnings)


def _implausible(kidney: Kidney) -> tuple[str, ...]:
    name = kidney.side if kidney.side == "kidney" else f"{kidney.side} kidney"
    return tuple(implausible(kidney.labels, kidney.spacing_mm, kidney.label_set, name))


def _sheets(mask: Volume, margin_mm: float, labels: LabelSet) -> list[Sheet]:
    return [measure_kidney(kidney, margin_mm) for kidney in find_kidneys(mask.array, mask.grid.spacing_mm, labels)]


def _sheets_like(path: Path, other: Path, margin_mm: float, sheets: Sequence[Sheet], labels: LabelSet) -> list[Sheet]:
    mask = read_pair(Pair(path, other, labels)).pred
    found = _sheets(canonical(mask, is_label=True), margin_mm, labels)
    # Sheets are paired by their order, which is that of the sides.
    if [sheet.side for sheet in found] != [sheet.side for sheet in sheets]:
        raise InputError(f"{other}: shows {len(found)} kidneys, {path} {len(sheets)}; name masks of one scan")
    return found
