"""Prediction on scans: both kidneys are found, cut out, segmented and written as a mask on the scan's own grid.

A DICOM series also gets a DICOM segmentation. Scans are predicted one after the other, and a scan that fails does not
stop the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from renalnet.config import InferenceConfig, LabelSet, PrepareConfig, override, parse
from renalnet.data.cases.layouts import find_scans
from renalnet.data.cases.loading import is_series, load_scan
from renalnet.data.cases.roi import CUT_FIELD_FACTOR, cut_scan, is_cut
from renalnet.data.cases.sides import SIDES, Box, Side
from renalnet.data.dicom.segmentation_writer import write_segmentation
from renalnet.data.images.hounsfield import to_hounsfield
from renalnet.data.images.volume import Grid, Volume, image_stem, to_source, write_volume
from renalnet.data.localise.atlas import ATLAS_FILE, Atlas, load_atlases
from renalnet.data.localise.localiser import LOW_CONFIDENCE, Localisation, localise
from renalnet.errors import CheckpointError, InputError
from renalnet.inference.pipeline import Model, inference_config, load_bundle, segment_roi
from renalnet.runtime import storage
from renalnet.runtime.workers import DIED
from renalnet.types import HuArray, LabelArray, Shape, Triple


@dataclass(frozen=True)
class Predictor:
    """A model bundle that is ready to predict on scans."""

    model: Model
    """Networks of the bundle."""
    atlases: Sequence[Atlas]
    """Atlases by which the kidneys are found."""
    prepare: PrepareConfig
    """Configuration by which ROIs are cut, as those that the model was trained on."""
    inference: InferenceConfig
    """Stitched inference and post-processing."""

    def segment_file(self, path: str | Path, *, series: str | None = None) -> "Prediction":
        """Segment a scan: a NIfTI, NRRD or MetaImage file, or a folder of DICOM slices.

        Args:
            path: the file or the folder.
            series: number or SeriesInstanceUID of the series to read where the folder holds several.

        Returns:
            A mask on the grid of the file, and what is known of it.

        Raises:
            InputError: the scan is missing, damaged, or not a CT that can be read.
        """
        image, source = load_scan(Path(path), series=series)
        return predict_image(self, image, source)

    def segment_array(self, hu: HuArray, spacing_mm: Triple) -> "Prediction":
        """Segment a CT that is already in memory.

        Args:
            hu: CT numbers in HU (z, y, x), in LPS: z towards the head, y towards the back, x towards the left.
            spacing_mm: voxel spacing (z, y, x) in mm.

        Returns:
            A mask of the shape of `hu`, and what is known of it.

        Raises:
            InputError: the array is not three-dimensional, or holds values that are not finite.
        """
        if hu.ndim != 3:
            raise InputError(f"array of shape {hu.shape}: a CT has three axes (z, y, x); pass one volume")
        shape: Shape = (hu.shape[0], hu.shape[1], hu.shape[2])
        grid = Grid.axis_aligned(shape, spacing_mm)
        return predict_image(self, Volume(to_hounsfield(hu, "the array"), grid), grid)


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
    """Confidence, 0 to 1, that the kidney of each side was found; empty for a scan that is already cut to an ROI."""
    segmented: tuple[Side, ...]
    """Sides whose kidney was found with enough confidence to be segmented."""
    warnings: tuple[str, ...]
    """One line for each kidney that was left out, and one for an empty mask."""

    def to_json(self) -> dict[str, Any]:
        """Return everything but the mask; `confidence` is the lowest of the segmented sides, null without one."""
        kidneys = {
            side: {"segmented": side in self.segmented, "confidence": value, "volume_ml": self.side_ml.get(side)}
            for side, value in self.confidence.items()
        }
        lowest = min((self.confidence[side] for side in self.segmented), default=None)
        return {
            "volume_ml": self.volume_ml,
            "confidence": lowest,
            "kidneys": kidneys,
            "warnings": list(self.warnings),
        }


def load_predictor(folder: str | Path, assignments: Sequence[str] = ()) -> Predictor:
    """Load the `best` folder of a study, or the folder of a finished `renalnet train`.

    The bundle of `renalnet train` is used with the default post-processing.

    Args:
        folder: folder of the bundle.
        assignments: `key.sub=value` that override the bundle's `InferenceConfig`.

    Raises:
        CheckpointError: the folder is neither of the two, or is damaged.
        ConfigError: an assignment is wrong.
    """
    model = load_bundle(storage.absolute(folder))
    if "roi" not in model.config or not storage.exists(storage.join(folder, ATLAS_FILE)):
        raise CheckpointError(
            f"{folder}: states no ROI configuration or lacks {ATLAS_FILE}; name the `best` folder of a study, or the "
            "folder of a finished `renalnet train`"
        )
    return Predictor(
        model,
        load_atlases(storage.join(folder, ATLAS_FILE)),
        parse(PrepareConfig, model.config["roi"]),
        override(inference_config(model.config), assignments),
    )


def predict_image(predictor: Predictor, image: Volume, source: Grid) -> Prediction:
    """Segment the kidneys of a scan that are found with enough confidence; warnings name the others.

    Where no kidney is found, the mask is empty and a warning states it.

    Args:
        predictor: result of `load_predictor`.
        image: canonical volume of int16 HU, from `load_scan`.
        source: grid of the scan's file, which will be the grid of the mask.
    """
    found = None if is_cut(image.grid, predictor.prepare) else localise(image, predictor.atlases, predictor.prepare)
    sides = found.confident_sides if found else ()
    boxes: list[Box | None] = [found.box(side) for side in sides] if found else [None]
    parts = [_segment_box(predictor, image, box, source) for box in boxes]
    labels = predictor.model.labels
    array = _joined(parts, source.shape, labels)
    # A scan that is already cut to an ROI has a part but no side.
    by_side = {side: _volume_ml(part, source, labels) for side, part in zip(sides, parts, strict=False)}
    confidence = {side: found.confidence_of(side) for side in SIDES} if found else {}
    warnings = _warnings(found, predictor.prepare, is_empty=not array.any())
    return Prediction(Volume(array, source), _volume_ml(array, source, labels), by_side, confidence, sides, warnings)


def _joined(parts: Sequence[LabelArray], shape: Shape, labels: LabelSet) -> LabelArray:
    """Return one mask of the parts of both sides; empty where there is no part.

    Where the boxes of both sides overlap, lesions are kept before the kidney, and the kidney before other structures.
    """
    highest: LabelArray = np.maximum.reduce([np.zeros(shape, np.uint8), *map(labels.to_ranks, parts)])
    return labels.from_ranks(highest)


def _volume_ml(values: LabelArray, source: Grid, labels: LabelSet) -> dict[str, float]:
    return {label.name: int((values == label.value).sum()) * source.voxel_ml for label in labels.labels}


def scan_names(scans: Sequence[Path]) -> list[str]:
    """Return a name for the mask of each scan.

    The name is that of the file or DICOM folder. Scans of the same name get the name of the folder around them.

    Raises:
        InputError: two scans still have the same name.
    """
    stems = [_stem(scan) for scan in scans]
    # `Path("ct.nii.gz").parent` has no name unless the path is absolute.
    names = [
        scan.absolute().parent.name if stems.count(stem) > 1 else stem for scan, stem in zip(scans, stems, strict=True)
    ]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise InputError(f"two scans would write the mask '{repeated}'; predict them into different folders")
    return names


def _stem(scan: Path) -> str:
    if scan.is_dir():
        return scan.absolute().name
    return image_stem(scan.name) or scan.name.removesuffix(".dcm")


def _no_kidney(found: Localisation, prepare: PrepareConfig) -> str:
    confidence = ", ".join(f"{side} {found.confidence_of(side):.2f}" for side in SIDES)
    return (
        f"no kidney found (confidence {confidence}; {LOW_CONFIDENCE} is needed); name a CT of the abdomen, or one cut "
        f"to a kidney, at most {CUT_FIELD_FACTOR * prepare.window_mm:.0f} mm wide"
    )


def _warnings(found: Localisation | None, prepare: PrepareConfig, *, is_empty: bool) -> tuple[str, ...]:
    """Return a line for each kidney that is left out, or one for both, and one for an empty mask."""
    # A mask without a segmented kidney is always empty, so its own warning would repeat this one.
    if found and not found.confident_sides:
        return (_no_kidney(found, prepare),)
    empty = ("no kidney was segmented",) if is_empty else ()
    if not found:
        return empty
    doubts = tuple(
        f"{side} kidney not segmented: confidence {found.confidence_of(side):.2f}, {LOW_CONFIDENCE} is needed"
        for side in SIDES
        if side not in found.confident_sides
    )
    return (*doubts, *empty)


def _segment_box(predictor: Predictor, image: Volume, box: Box | None, source: Grid) -> LabelArray:
    roi = cut_scan(image, box, predictor.prepare)
    array = np.ascontiguousarray(roi.array)
    found = segment_roi(predictor.model, array, roi.grid.spacing_mm, predictor.inference)
    on_source: LabelArray = to_source(Volume(found.final, roi.grid), source).array
    return on_source


@dataclass(frozen=True)
class ScanJob:
    """A scan to predict on."""

    scan: Path
    """File or folder of the scan."""
    stem: str
    """Path or URI of the files to write, without their endings."""
    model: str
    """Folder of the bundle."""
    series: str | None = None
    """UID of the DICOM series to read; None where the folder holds one series."""
    assignments: tuple[str, ...] = ()
    """`key.sub=value` that override the bundle's `InferenceConfig`."""

    def __str__(self) -> str:
        return str(self.scan)


@dataclass(frozen=True)
class ScanReport:
    """Messages about one scan."""

    line: str = ""
    """File and volumes of the mask; empty for a scan that failed."""
    warnings: tuple[str, ...] = ()
    """Warnings about the mask."""
    failure: str = ""
    """Reason why there is no mask or why it is empty; else empty."""


Read: TypeAlias = tuple[Volume, Grid] | ScanReport


def list_jobs(
    paths: Sequence[Path], model: str, out: str, *, series: str | None = None, assignments: Sequence[str] = ()
) -> list[ScanJob]:
    """Return a job for each scan under the paths. Raises InputError for no scan or two scans of one name."""
    scans = [scan for path in paths for scan in find_scans(path, series=series)]
    stems = [storage.join(out, name) for name in scan_names(scans)]
    return [ScanJob(scan, stem, model, series, tuple(assignments)) for scan, stem in zip(scans, stems, strict=True)]


def read_scan(job: ScanJob) -> Read:
    """Read a scan; a report of the failure where it cannot be read."""
    try:
        return load_scan(job.scan, series=job.series)
    except InputError as error:
        return ScanReport(failure=str(error))


def lost_scan(job: ScanJob) -> ScanReport:
    """Return the report of a scan whose process died."""
    return ScanReport(failure=f"{job.scan}: {DIED}")


def predict_scan(job: ScanJob, read: Read | None = None) -> ScanReport:
    """Segment a scan and write `<stem>.nii.gz`, `<stem>.json` and, for a DICOM series, `<stem>.dcm`.

    The model stays loaded in the process for the next scan.

    Args:
        job: the scan and the files to write.
        read: result of `read_scan`; None to read the scan here.
    """
    found = read_scan(job) if read is None else read
    if isinstance(found, ScanReport):
        return found
    try:
        predictor = _loaded(job.model, job.assignments)
        prediction = predict_image(predictor, *found)
    except InputError as error:
        return ScanReport(failure=str(error))
    write_volume(f"{job.stem}.nii.gz", prediction.mask)
    if is_series(job.scan):
        values = prediction.mask.array
        labels = predictor.model.labels
        write_segmentation(
            f"{job.stem}.dcm", values, job.scan, labels=labels, series=job.series, version=version("renalnet")
        )
    storage.write_json(f"{job.stem}.json", prediction.to_json())
    # A scan that is already cut to an ROI has no confidence; an empty mask of it is a warning, not a failure.
    if prediction.confidence and not prediction.segmented:
        return ScanReport(failure=f"{job.scan}: {prediction.warnings[0]}; the mask that was written is empty")
    volumes = ", ".join(f"{label} {volume:.1f} ml" for label, volume in prediction.volume_ml.items())
    warnings = tuple(f"{job.scan}: {warning}" for warning in prediction.warnings)
    return ScanReport(f"{job.stem}.nii.gz: {volumes}", warnings)


# One model only, because its networks may fill the memory of a GPU.
@lru_cache(maxsize=1)
def _loaded(model: str, assignments: tuple[str, ...]) -> Predictor:
    return load_predictor(model, assignments)
