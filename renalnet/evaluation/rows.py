"""The measures of one label of one case. Each is declared once: its function, its name and where it is shown.

A field of `LabelMeasures` is a column of `metrics.parquet` in a study and of the CSV and JSON of `renalnet evaluate`.
To add a measure, write its function of a `LabelPair` and declare one field, with `default=None` so that files written
before can still be read. A field with a group is averaged over the cases; one that also has a title is shown in the
tables of `renalnet evaluate` and, except for volumes, in `classes.csv` of the report.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias, get_args

from renalnet.config.labels import KIDNEY, TUMOR
from renalnet.evaluation.detection import tumor_found
from renalnet.evaluation.overlap import Confusion, confusion, volume_ml
from renalnet.evaluation.surface import SurfaceDistances, SurfacePair
from renalnet.types import MaskArray, Triple

KIDNEY_AND_MASS: Final = "kidney_and_mass"
"""Class of the KiTS challenge: the kidney with all of its lesions."""
MASS: Final = "mass"
"""Class of the KiTS challenge: all lesions of the kidney."""
_KIDNEY_AND_MASS_MM: Final = 1.0331
_TUMOR_MM: Final = 1.1498
_MASS_MM: Final = 1.1329
_TOLERANCE_MM: Final = {KIDNEY: _KIDNEY_AND_MASS_MM, TUMOR: _TUMOR_MM, KIDNEY_AND_MASS: _KIDNEY_AND_MASS_MM}
"""Tolerances of the KiTS challenge (2021). It has none for the kidney alone, which takes that of kidney and mass."""
Group: TypeAlias = Literal["overlap", "distance", "detection", "volume"]
"""Kind of a measure; tables show the groups in this order."""
_PIXELS: Final = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class MaskPair:
    """The true and the predicted mask of a class. What several measures read is computed once, when it is needed."""

    truth: MaskArray
    """Boolean (z, y, x)."""
    pred: MaskArray
    """Boolean (z, y, x) on the same grid."""
    spacing_mm: Triple
    """Voxel spacing (z, y, x)."""

    # `cached_property` writes to the instance's `__dict__`, which a frozen dataclass without slots allows.
    @cached_property
    def counts(self) -> Confusion:
        """Voxels by truth and prediction."""
        return confusion(self.truth, self.pred)

    @cached_property
    def distances_mm(self) -> SurfaceDistances:
        """Distances between the surfaces in mm."""
        return self._surfaces.distances(self.spacing_mm)

    @cached_property
    def distances_px(self) -> SurfaceDistances:
        """Distances between the surfaces in voxels."""
        return self._surfaces.distances(_PIXELS)

    @cached_property
    def is_found(self) -> bool | None:
        """Whether a predicted component overlaps the truth enough (`tumor_found`); None where the truth is empty."""
        return tumor_found(self.truth, self.pred)

    @property
    def truth_ml(self) -> float:
        """Volume of the true mask."""
        return volume_ml(self.counts.num_truth, self.spacing_mm)

    @property
    def pred_ml(self) -> float:
        """Volume of the predicted mask."""
        return volume_ml(self.counts.num_pred, self.spacing_mm)

    @cached_property
    def _surfaces(self) -> SurfacePair:
        return SurfacePair.of(self.truth, self.pred)


@dataclass(frozen=True, eq=False)
class LabelPair:
    """A label and its masks. Equal masks share one `MaskPair`, so that its distances are computed once."""

    label: str
    """Name of a label, `KIDNEY_AND_MASS` or `MASS`."""
    masks: MaskPair
    is_lesion: bool = False
    """Whether the label is a lesion, which is found or missed, or `MASS`."""

    @property
    def tolerance_mm(self) -> float:
        """Tolerance of the surface Dice; a label without one of its own has that of `MASS`."""
        return _TOLERANCE_MM.get(self.label, _MASS_MM)


@dataclass(frozen=True)
class Measure:
    """Declaration of a measure, kept with its field."""

    compute: Callable[[LabelPair], Any]
    group: Group | None
    title: str


def measured(
    compute: Callable[[LabelPair], Any], *, group: Group | None = None, title: str = "", default: Any = MISSING
) -> Any:
    """Return the dataclass field of a measure.

    Args:
        compute: gives the value; a finite number, a boolean, a string, or None where the measure does not apply.
        group: kind of the measure; a measure without a group is not averaged over cases.
        title: heading of its column in tables; a measure without a title is only written to files.
        default: value for rows of files that lack the column; without it such files are refused.
    """
    return field(default=default, metadata={"measure": Measure(compute, group, title)})


def _surface_dice(pair: LabelPair) -> float:
    return pair.masks.distances_mm.surface_dice(pair.tolerance_mm)


def _volume_error_ml(pair: LabelPair) -> float:
    return pair.masks.pred_ml - pair.masks.truth_ml


def _volume_error_share(pair: LabelPair) -> float | None:
    return _volume_error_ml(pair) / pair.masks.truth_ml if pair.masks.truth_ml else None


def _found(pair: LabelPair) -> bool | None:
    return pair.masks.is_found if pair.is_lesion else None


# Keywords only, so that a measure with a default may stand before one without.
@dataclass(frozen=True, kw_only=True)
class LabelMeasures:
    """One label of one case. No value is NaN or infinite; a measure that does not apply is None."""

    label: str = measured(lambda pair: pair.label)
    """Name of a label; `kidney_and_mass` or `mass` as in the KiTS challenge."""
    dice: float = measured(lambda pair: pair.masks.counts.dice, group="overlap", title="Dice")
    """Dice, 0 to 1; both masks empty: 1, one empty: 0."""
    surface_distance_mm: float = measured(
        lambda pair: pair.masks.distances_mm.mean_mm, group="distance", title="surface distance (mm)"
    )
    """Mean symmetric distance of the surfaces; both masks empty: 0, one empty: the diagonal of the volume."""
    surface_distance_px: float = measured(lambda pair: pair.masks.distances_px.mean_mm, group="distance")
    """The same with unit spacing on the same grid, as in the paper's Table I."""
    hd95_mm: float = measured(lambda pair: pair.masks.distances_mm.hd95_mm, group="distance", title="HD95 (mm)")
    """The larger of the two directed 95th percentiles."""
    surface_dice: float = measured(_surface_dice, group="overlap", title="surface Dice")
    """Share of both surfaces within the label's tolerance, 0 to 1; both masks empty: 1, one empty: 0."""
    volume_truth_ml: float = measured(lambda pair: pair.masks.truth_ml, group="volume")
    """Volume of the true mask."""
    volume_pred_ml: float = measured(lambda pair: pair.masks.pred_ml, group="volume")
    """Volume of the predicted mask."""
    volume_error_ml: float | None = measured(_volume_error_ml, group="volume", title="volume error (ml)", default=None)
    """Predicted volume minus true volume."""
    volume_error_share: float | None = measured(_volume_error_share, default=None)
    """Volume error as a share of the true volume; None where the truth is empty."""
    true_positive: int = measured(lambda pair: pair.masks.counts.true_positive)
    """Voxels of both masks."""
    false_positive: int = measured(lambda pair: pair.masks.counts.false_positive)
    """Voxels of the prediction alone."""
    false_negative: int = measured(lambda pair: pair.masks.counts.false_negative)
    """Voxels of the truth alone."""
    true_negative: int = measured(lambda pair: pair.masks.counts.true_negative)
    """Voxels of neither mask."""
    truth_empty: bool = measured(lambda pair: pair.masks.counts.num_truth == 0)
    """Whether the true mask has no voxel."""
    pred_empty: bool = measured(lambda pair: pair.masks.counts.num_pred == 0)
    """Whether the predicted mask has no voxel."""
    found: bool | None = measured(_found, default=None)
    """Whether a predicted component of a lesion has IoU ≥ 0.1 with the truth; None for other labels and where the
    truth is empty."""


def measures_of(pair: LabelPair) -> LabelMeasures:
    """Compute all measures of a label. Raises InputError where the shapes of the masks differ."""
    return LabelMeasures(**{each.name: _declared(each).compute(pair) for each in fields(LabelMeasures)})


def _declared(each: "Field[Any]") -> Measure:
    declared: Measure = each.metadata["measure"]
    return declared


def _titles_of(group: str) -> dict[str, str]:
    declared = {each.name: _declared(each) for each in fields(LabelMeasures)}
    return {name: one.title for name, one in declared.items() if one.group == group and one.title}


MEASURES: Final = tuple(each.name for each in fields(LabelMeasures) if _declared(each).group)
"""Names of the measures that are averaged over cases, in the order of the columns."""
SHOWN: Final[dict[str, str]] = {name: title for group in get_args(Group) for name, title in _titles_of(group).items()}
"""Name and heading of each measure that tables for people show, group by group."""
SHOWN_WITHOUT_VOLUMES: Final = tuple(name for name in SHOWN if name not in _titles_of("volume"))
"""Names of the measures that the report averages by network and label."""
