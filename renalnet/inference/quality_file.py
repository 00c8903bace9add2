"""`quality.json` of a model bundle: how good its masks are expected to be, and which scans it was trained on.

Bundles of earlier versions lack the file. They state neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from renalnet.data.checks.facts_file import facts_from_bytes
from renalnet.data.store.reader import Store
from renalnet.errors import CheckpointError, InputError
from renalnet.evaluation.mask_quality import Calibration, Signs
from renalnet.nets.tensor_file import digest_of
from renalnet.runtime import storage

QUALITY_FILE: Final = "quality.json"
"""Name of the file in a model bundle."""
SIGNS: Final = tuple(field.name for field in fields(Signs))
"""Names of the signs that every mask has."""
_CHECKSUM: Final = "checksum"
_RANGE: Final = (0.005, 0.995)
"""Quantiles that are the ends of a range; a single damaged case does not widen it much."""

Range: TypeAlias = tuple[float, float]
"""Lowest and highest value."""


@dataclass(frozen=True)
class MaskQuality:
    """Estimated quality of one mask."""

    dice_kidney: float
    """Estimated kidney Dice, 0 to 1."""
    dice_tumor: float
    """Estimated tumor Dice, 0 to 1."""
    error_kidney: float
    """Mean absolute error of the estimated kidney Dice over the known cases, each estimated from the other ones."""
    error_tumor: float
    """The same of the tumor Dice."""
    calibrated_on: str
    """The known cases, in words."""


@dataclass(frozen=True, eq=False)
class LearnedQuality:
    """What is needed to estimate the quality of a bundle's masks."""

    kidney: Calibration
    """Estimate of the kidney Dice."""
    tumor: Calibration
    """Estimate of the tumor Dice."""
    study: str
    """Name of the study whose validation cases are the known cases."""
    synthetic: bool
    """Whether these are painted images and not scans."""
    signs: tuple[str, ...] = SIGNS
    """Fields of `Signs`, in the order of the calibrations."""

    @property
    def num_known(self) -> int:
        """Number of known cases."""
        return len(self.kidney.left_out)

    def estimate(self, signs: Signs) -> MaskQuality:
        """Return the estimated quality of the mask with some signs."""
        values = np.array([[getattr(signs, name) for name in self.signs]], np.float64)
        origin = f"{self.num_known} validation cases of study '{self.study}'"
        return MaskQuality(
            dice_kidney=float(self.kidney.estimate(values)[0]),
            dice_tumor=float(self.tumor.estimate(values)[0]),
            error_kidney=self.kidney.error,
            error_tumor=self.tumor.error,
            calibrated_on=f"{origin} (synthetic images)" if self.synthetic else origin,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, text, lists and dictionaries."""
        about = {"study": self.study, "synthetic": self.synthetic, "num_known": self.num_known}
        return {**about, "signs": self.signs, "kidney": self.kidney.to_json(), "tumor": self.tumor.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LearnedQuality":
        """Return what `to_json` wrote. Raises KeyError, TypeError or ValueError for other values."""
        signs = tuple(values["signs"])
        unknown = set(signs) - set(SIGNS)
        if unknown:
            raise ValueError(f"unknown sign '{min(unknown)}'")
        kidney, tumor = (Calibration.from_json(values[label]) for label in ("kidney", "tumor"))
        return cls(kidney, tumor, values["study"], values["synthetic"], signs)


@dataclass(frozen=True)
class TrainingScans:
    """Ranges of the scans of the training cases: their quantiles 0.5 % and 99.5 %."""

    num_cases: int
    """Number of training cases with known facts."""
    kidney_hu: Range
    """Mean CT number of the kidney."""
    spacing_z_mm: Range
    """Distance between slices of the scan."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingScans":
        """Return the fields as JSON holds them. Raises KeyError, TypeError or ValueError for other values."""
        hu_low, hu_high = values["kidney_hu"]
        mm_low, mm_high = values["spacing_z_mm"]
        return cls(values["num_cases"], (hu_low, hu_high), (mm_low, mm_high))


@dataclass(frozen=True)
class BundleQuality:
    """Content of `quality.json`."""

    learned: LearnedQuality | None = None
    """None for a bundle of `renalnet train`, and for a study with too few validation cases."""
    training: TrainingScans | None = None
    """None for a store without facts of its cases."""


def training_scans(store: Store) -> TrainingScans | None:
    """Return the ranges of a store's training cases; None where the store knows the kidney of none of them."""
    if not store.manifest.facts:
        return None
    cases = set(store.cases("train"))
    known = (facts for facts in facts_from_bytes(store.read_beside(store.manifest.facts)) if facts.case in cases)
    found = [(facts.kidney_hu, facts.spacing_z_mm) for facts in known if facts.kidney_hu is not None]
    if not found:
        return None
    kidneys, spacings = zip(*found, strict=True)
    return TrainingScans(len(found), _range(kidneys), _range(spacings))


def _range(values: Sequence[float]) -> Range:
    low, high = np.quantile(values, _RANGE).tolist()
    return low, high


def write_quality(folder: str, store: Store, learned: LearnedQuality | None = None) -> None:
    """Write `quality.json` of a model bundle.

    Args:
        folder: folder of the bundle.
        store: the store that its networks were trained on.
        learned: estimates of the quality of its masks; None where they are not known.
    """
    training = training_scans(store)
    values = {
        "learned": learned.to_json() if learned else None,
        "training": asdict(training) if training else None,
    }
    storage.write_json(storage.join(folder, QUALITY_FILE), {_CHECKSUM: digest_of(b"", values), **values})


def read_quality(folder: str | Path) -> BundleQuality:
    """Read `quality.json` of a model bundle; empty for a bundle without the file.

    Raises:
        CheckpointError: the file is damaged, or states signs that this version does not know.
    """
    path = storage.join(folder, QUALITY_FILE)
    try:
        return _from_json(storage.read_json(path))
    except FileNotFoundError:
        return BundleQuality()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = "not JSON" if isinstance(error, InputError) else error
        raise CheckpointError(
            f"{path}: damaged, or of a later version ({reason}); restore the file, or remove it to predict without "
            "estimates of quality"
        ) from error


def _from_json(values: dict[str, Any]) -> BundleQuality:
    content = {name: value for name, value in values.items() if name != _CHECKSUM}
    if values[_CHECKSUM] != digest_of(b"", content):
        raise ValueError("the content differs from its checksum")
    learned, training = content["learned"], content["training"]
    return BundleQuality(
        LearnedQuality.from_json(learned) if learned else None,
        TrainingScans.from_json(training) if training else None,
    )
