"""The outcome of a prediction: a mask, what is known of it, and the lines that warn of doubts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from renalnet.config import PrepareConfig
from renalnet.data.cases.roi import CUT_FIELD_FACTOR
from renalnet.data.cases.sides import Side
from renalnet.data.images.volume import Volume
from renalnet.data.localise.localiser import LOW_CONFIDENCE, FoundKidney
from renalnet.inference.quality_file import MaskQuality, TrainingScans
from renalnet.prediction.familiarity import kidney_remarks, scan_remarks
from renalnet.types import LabelArray


@dataclass(frozen=True)
class Prediction:
    """A mask and the facts that are reported with it."""

    mask: Volume
    """Labels (uint8) on the grid of the scan's file."""
    volume_ml: dict[str, float]
    """Volume of each label, both sides together."""
    side_ml: dict[Side, dict[str, float]]
    """Volume of each label by segmented side; empty for a scan that is already cut to an ROI."""
    confidence: dict[Side, float]
    """Confidence of the localisation, 0 to 1: that there is a kidney on that side. It says nothing of the mask. Empty
    for a scan that is already cut to an ROI."""
    segmented: tuple[Side, ...]
    """Sides whose kidney was found with enough confidence to be segmented."""
    warnings: tuple[str, ...]
    """One line for each kidney that was left out, for an empty mask, for what the model was not trained for, for
    volumes and numbers of pieces that no kidney has, and for what is unusual about the scan's DICOM series."""
    side_quality: dict[Side, MaskQuality] = field(default_factory=dict)
    """Estimated quality by segmented side. A kidney of which the scan shows only a part has none. Empty where the
    bundle has no calibration, and for an ROI already cut."""
    roi_quality: MaskQuality | None = None
    """Estimated quality for a scan that is already cut to an ROI; else None."""
    backends: tuple[str, ...] = ()
    """What computed the networks, as `torch 2.13.0, float32`; empty where no box was segmented."""

    def to_json(self) -> dict[str, Any]:
        """Return everything but the mask; `confidence` is the lowest of the segmented sides, null without one."""
        kidneys = {
            side: {
                "segmented": side in self.segmented,
                "confidence": value,
                "volume_ml": self.side_ml.get(side),
                "quality": _quality_json(self.side_quality.get(side)),
            }
            for side, value in self.confidence.items()
        }
        lowest = min((self.confidence[side] for side in self.segmented), default=None)
        return {
            "volume_ml": self.volume_ml,
            "confidence": lowest,
            "kidneys": kidneys,
            "quality": _quality_json(self.roi_quality),
            "warnings": list(self.warnings),
            "backends": list(self.backends),
        }


def with_notes(prediction: Prediction, notes: Sequence[str]) -> Prediction:
    """Return the prediction with notes about the scan's series after its own warnings."""
    return replace(prediction, warnings=(*prediction.warnings, *notes))


def _quality_json(quality: MaskQuality | None) -> dict[str, Any] | None:
    return asdict(quality) if quality else None


@dataclass(frozen=True)
class SegmentedBox:
    """What was segmented in the box of one kidney, or in a scan that is already cut to an ROI."""

    found: FoundKidney | None
    """The kidney that the localiser found there; None for a scan that is already cut."""
    confidence: float
    """Confidence that the mask is a kidney, 0 to 1."""
    labels: LabelArray
    """Labels on the grid of the scan's file."""
    kidney_hu: float | None
    """Mean CT number of the kidney; None without a voxel of it."""
    quality: MaskQuality | None
    """Estimated quality; None where the bundle has no calibration or the scan shows only a part of the kidney."""
    backend: str
    """What computed the networks, as `torch 2.13.0, float32`."""


def _no_kidney(confidence: Mapping[Side, float], prepare: PrepareConfig) -> str:
    of_sides = ", ".join(f"{side} {value:.2f}" for side, value in confidence.items())
    return (
        f"no kidney found (confidence {of_sides}; {LOW_CONFIDENCE} is needed); name a CT of the abdomen, or one cut "
        f"to a kidney, at most {CUT_FIELD_FACTOR * prepare.window_mm:.0f} mm wide"
    )


def doubts_of(
    confidence: Mapping[Side, float], kept: Mapping[Side, SegmentedBox], prepare: PrepareConfig, *, is_empty: bool
) -> tuple[str, ...]:
    """Return a line for each kidney that is left out, or one for both, for each remark, and for an empty mask."""
    # A mask without a segmented kidney is always empty, so its own warning would repeat this one.
    if confidence and not kept:
        return (_no_kidney(confidence, prepare),)
    doubts = [
        f"no {side} kidney segmented (confidence {value:.2f}, {LOW_CONFIDENCE} is needed); it may be absent, outside "
        "the scan, or missed"
        for side, value in confidence.items()
        if side not in kept
    ]
    remarks = [f"{side} kidney: {note}" for side, each in kept.items() if each.found for note in each.found.notes]
    return (*doubts, *remarks, *(("no kidney was segmented",) if is_empty else ()))


def remarks_of(
    image: Volume, training: TrainingScans | None, kept: Mapping[Side, SegmentedBox], roi: SegmentedBox | None
) -> Iterator[str]:
    """Yield a line for everything that the model was not trained for."""
    yield from scan_remarks(image, training, is_cut=roi is not None)
    kidneys = {"the kidney": roi} if roi else {f"{side} kidney": each for side, each in kept.items()}
    for name, each in kidneys.items():
        yield from kidney_remarks(each.kidney_hu, name, training)
