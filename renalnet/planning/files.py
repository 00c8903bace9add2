"""Planning sheets of mask files."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from renalnet.config import KIDNEY_TUMOR, LabelSet
from renalnet.config.label_columns import flat
from renalnet.data.images.mask_files import find_masks, read_mask
from renalnet.data.images.volume import Volume, canonical
from renalnet.errors import InputError
from renalnet.evaluation.mask_pairs import Pair, read_pair
from renalnet.planning.function import KidneyFunction, functions_of, require_gfr
from renalnet.planning.kidneys import Kidney, find_kidneys
from renalnet.planning.lesions import Lesion, lesions_of
from renalnet.planning.rows import measures_of, spread_of
from renalnet.planning.scores import require_nearness
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
    functions: list[KidneyFunction | None]
    """For each sheet, the share of the renal function and the GFR to expect; None where there are not two kidneys."""
    lesions: list[list[Lesion]]
    """For each sheet, the pieces of its lesions."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per kidney: the mask's path, the measures, and their bounds where there are several masks."""
        for sheet, spread, warnings, function in zip(
            self.sheets, self.spreads, self.warnings, self.functions, strict=True
        ):
            bounds = {
                f"{name}_{end}": value
                for name, both in spread.items()
                for end, value in zip(("least", "most"), both, strict=True)
            }
            known = asdict(function) if function else {}
            yield {
                "mask": str(self.mask),
                **flat(measures_of(sheet)),
                **known,
                **bounds,
                "warnings": "; ".join(warnings),
            }

    def lesion_rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per piece of a lesion: the mask's path, the kidney's side, and the measures."""
        for sheet, lesions in zip(self.sheets, self.lesions, strict=True):
            for lesion in lesions:
                yield {"mask": str(self.mask), "side": sheet.side, **asdict(lesion)}


def masks_of(paths: Sequence[Path]) -> list[Path]:
    """Return the mask files among the paths and in the folders among them. Raises InputError where there is none."""
    return [mask for path in paths for mask in (find_masks(path).values() if path.is_dir() else [path])]


def plan_mask(
    path: str | Path,
    others: Sequence[str | Path] = (),
    margin_mm: float = MARGIN_MM,
    *,
    labels: LabelSet = KIDNEY_TUMOR,
    gfr: float | None = None,
    nearness_mm: float | None = None,
) -> Plan:
    """Return the planning sheets of a mask file, one per kidney.

    Args:
        path: file of the mask; it is measured on its own grid.
        others: files of other masks of the same scan, such as those of an ensemble's members, for the spread.
        margin_mm: parenchyma closer to the tumor than this does not remain.
        labels: meaning of the masks' values.
        gfr: GFR of the patient before surgery, in ml/min/1.73 m²; None for the split of the function alone.
        nearness_mm: distance of the tumor from the collecting system or sinus; None where it is not known.

    Raises:
        InputError: `gfr` or `nearness_mm` is impossible; both kidneys have a tumor where `nearness_mm` is given; a mask
            cannot be read or holds other labels; or another mask has other kidneys or another grid. A segmentation of
            3D Slicer may cover only a part of the other mask's grid.
    """
    path = Path(path)
    if gfr is not None:
        require_gfr(gfr)
    if nearness_mm is not None:
        require_nearness(nearness_mm)
    kidneys = _kidneys(read_mask(path, labels), labels)
    sheets = [measure_kidney(kidney, margin_mm, nearness_mm) for kidney in kidneys]
    if nearness_mm is not None and sum(bool(sheet.num_tumors) for sheet in sheets) > 1:
        raise InputError(f"{path}: both kidneys have a tumor, and the nearness is that of one; give it for neither")
    spreads: list[dict[str, tuple[float, float]]] = [{} for _ in sheets]
    if others:
        alike = [sheets, *(_sheets_like(path, Path(other), margin_mm, sheets, labels) for other in others)]
        spreads = [spread_of(of_kidney) for of_kidney in zip(*alike, strict=True)]
    return Plan(
        path,
        sheets,
        spreads,
        warnings=[kidney.warnings for kidney in kidneys],
        functions=functions_of(sheets, gfr),
        lesions=[lesions_of(kidney) for kidney in kidneys],
    )


def _kidneys(mask: Volume, labels: LabelSet) -> list[Kidney]:
    return find_kidneys(mask.array, mask.grid.spacing_mm, labels)


def _sheets_like(path: Path, other: Path, margin_mm: float, sheets: Sequence[Sheet], labels: LabelSet) -> list[Sheet]:
    mask = read_pair(Pair(path, other, labels)).pred
    kidneys = _kidneys(canonical(mask, is_label=True), labels)
    # Sheets are paired by their order, which is that of the sides.
    if [kidney.side for kidney in kidneys] != [sheet.side for sheet in sheets]:
        raise InputError(f"{other}: shows {len(kidneys)} kidneys, {path} {len(sheets)}; name masks of one scan")
    pairs = zip(kidneys, sheets, strict=True)
    return [measure_kidney(kidney, margin_mm, sheet.nearness_mm) for kidney, sheet in pairs]
