"""Prediction on scans: both kidneys are found, cut out, segmented and written as a mask on the scan's own grid.

A DICOM series also gets a DICOM segmentation. Scans are predicted one after the other, and a scan that fails does not
stop the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from renalnet.config import InferenceConfig, LabelSet, PrepareConfig, override, parse
from renalnet.data.cases.layouts import find_scans
from renalnet.data.cases.loading import is_series, load_scan
from renalnet.data.cases.roi import CUT_FIELD_FACTOR, cut_scan, is_cut
from renalnet.data.cases.sides import SIDES, Side
from renalnet.data.dicom.segmentation_writer import write_segmentation
from renalnet.data.images.hounsfield import to_hounsfield
from renalnet.data.images.volume import Grid, Volume, image_stem, to_source, write_volume
from renalnet.data.localise.atlas import ATLAS_FILE, load_atlases
from renalnet.data.localise.localiser import LOW_CONFIDENCE, FoundKidney
from renalnet.errors import CheckpointError, InputError
from renalnet.evaluation.mask_quality import signs_of
from renalnet.inference.familiarity import kidney_remarks, mean_kidney_hu, scan_remarks
from renalnet.inference.mask_evidence import evidence_of
from renalnet.inference.pipeline import Model, Segmentation, inference_config, load_bundle, segment_roi
from renalnet.inference.quality_file import BundleQuality, MaskQuality, TrainingScans, read_quality
from renalnet.localiser.finder import KidneyFinder
from renalnet.localiser.network import LOCALISER_FILE, load_network, packaged_network
from renalnet.nets.packaged import bundle_folder
from renalnet.runtime import storage
from renalnet.runtime.workers import DIED
from renalnet.types import HuArray, LabelArray, Shape, Triple

TRIED_CONFIDENCE: Final = 0.1
"""Confidence of the localiser from which the box of a doubtful kidney is segmented, so that the mask can decide."""


@dataclass(frozen=True)
class Predictor:
    """A model bundle that is ready to predict on scans."""

    model: Model
    """Networks of the bundle."""
    finder: KidneyFinder
    """Network and atlases by which the kidneys are found."""
    prepare: PrepareConfig
    """Configuration by which ROIs are cut, as those that the model was trained on."""
    inference: InferenceConfig
    """Stitched inference and post-processing."""
    quality: BundleQuality = field(default_factory=BundleQuality)
    """What the bundle states of the quality of its masks and of its training scans."""

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
    """One line for each kidney that was left out, for an empty mask, and for what the model was not trained for."""
    side_quality: dict[Side, MaskQuality] = field(default_factory=dict)
    """Estimated quality by segmented side; empty where the bundle has no calibration, and for an ROI already cut."""
    roi_quality: MaskQuality | None = None
    """Estimated quality for a scan that is already cut to an ROI; else None."""

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
        }


def _quality_json(quality: MaskQuality | None) -> dict[str, Any] | None:
    return asdict(quality) if quality else None


def load_predictor(folder: str | Path, assignments: Sequence[str] = ()) -> Predictor:
    """Load the `best` folder of a study, the folder of a finished `renalnet train`, or the packaged bundle.

    The bundle of `renalnet train` is used with the default post-processing.

    Args:
        folder: folder of the bundle; `packaged` for the bundle of the package.
        assignments: `key.sub=value` that override the bundle's `InferenceConfig`.

    Raises:
        CheckpointError: the folder is none of these, or is damaged.
        ConfigError: an assignment is wrong.
    """
    folder = storage.absolute(bundle_folder(folder))
    model = load_bundle(folder)
    if "roi" not in model.config or not storage.exists(storage.join(folder, ATLAS_FILE)):
        raise CheckpointError(
            f"{folder}: states no ROI configuration or lacks {ATLAS_FILE}; name the `best` folder of a study, or the "
            "folder of a finished `renalnet train`"
        )
    prepare = parse(PrepareConfig, model.config["roi"])
    inference = override(inference_config(model.config), assignments)
    return Predictor(model, _finder(folder, prepare), prepare, inference, read_quality(folder))


def _finder(folder: str | Path, prepare: PrepareConfig) -> KidneyFinder:
    own = storage.join(folder, LOCALISER_FILE)
    # The atlases alone, which a bundle of an older version has, miss too many kidneys of real scans.
    network = load_network(own) if storage.exists(own) else packaged_network()
    return KidneyFinder(network, load_atlases(storage.join(folder, ATLAS_FILE)), prepare)


@dataclass(frozen=True)
class _SegmentedBox:
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
    """Estimated quality; None where the bundle has no calibration."""


def predict_image(predictor: Predictor, image: Volume, source: Grid) -> Prediction:
    """Segment the kidneys of a scan that are found with enough confidence; warnings name the others.

    Where the localiser is in doubt, its box is segmented too, and the mask itself shows whether it is a kidney. Where
    no kidney is found, the mask is empty and a warning states it.

    Args:
        predictor: result of `load_predictor`.
        image: canonical volume of int16 HU, from `load_scan`.
        source: grid of the scan's file, which will be the grid of the mask.
    """
    is_roi = is_cut(image.grid, predictor.prepare)
    tried = {} if is_roi else _segment_kidneys(predictor, image, source)
    kept = {side: each for side, each in tried.items() if each.confidence >= LOW_CONFIDENCE}
    roi = _segment_box(predictor, image, None, source) if is_roi else None
    boxes = [roi] if roi else list(kept.values())
    labels = predictor.model.labels
    array = _joined([each.labels for each in boxes], source.shape, labels)
    by_side = {side: _volume_ml(each.labels, source, labels) for side, each in kept.items()}
    confidence = {} if is_roi else {side: tried[side].confidence if side in tried else 0.0 for side in SIDES}
    warnings = _warnings(confidence, kept, predictor.prepare, is_empty=not array.any())
    return Prediction(
        mask=Volume(array, source),
        volume_ml=_volume_ml(array, source, labels),
        side_ml=by_side,
        confidence=confidence,
        segmented=tuple(kept),
        warnings=(*warnings, *_remarks(image, predictor.quality.training, kept, roi)),
        side_quality={side: each.quality for side, each in kept.items() if each.quality},
        roi_quality=roi.quality if roi else None,
    )


def _segment_kidneys(predictor: Predictor, image: Volume, source: Grid) -> dict[Side, _SegmentedBox]:
    """Segment the box of each side, unless nothing there resembles a kidney."""
    found = predictor.finder.find(image)
    kidneys = {side: found.kidney(side) for side in SIDES}
    return {
        side: _segment_box(predictor, image, kidney, source)
        for side, kidney in kidneys.items()
        if kidney and kidney.confidence >= TRIED_CONFIDENCE
    }


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


def _no_kidney(confidence: Mapping[Side, float], prepare: PrepareConfig) -> str:
    of_sides = ", ".join(f"{side} {value:.2f}" for side, value in confidence.items())
    return (
        f"no kidney found (confidence {of_sides}; {LOW_CONFIDENCE} is needed); name a CT of the abdomen, or one cut "
        f"to a kidney, at most {CUT_FIELD_FACTOR * prepare.window_mm:.0f} mm wide"
    )


def _warnings(
    confidence: Mapping[Side, float], kept: Mapping[Side, _SegmentedBox], prepare: PrepareConfig, *, is_empty: bool
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


def _remarks(
    image: Volume, training: TrainingScans | None, kept: Mapping[Side, _SegmentedBox], roi: _SegmentedBox | None
) -> Iterator[str]:
    """Yield a line for everything that the model was not trained for."""
    yield from scan_remarks(image, training, is_cut=roi is not None)
    kidneys = {"the kidney": roi} if roi else {f"{side} kidney": each for side, each in kept.items()}
    for name, each in kidneys.items():
        yield from kidney_remarks(each.kidney_hu, name, training)


def _segment_box(predictor: Predictor, image: Volume, kidney: FoundKidney | None, source: Grid) -> _SegmentedBox:
    """Segment the ROI of a kidney, or the whole scan if `kidney` is None."""
    roi = cut_scan(image, kidney.box if kidney else None, predictor.prepare)
    array = np.ascontiguousarray(roi.array)
    found = segment_roi(predictor.model, array, roi.grid.spacing_mm, predictor.inference)
    on_source: LabelArray = to_source(Volume(found.final, roi.grid), source).array
    confidence = _confidence(kidney, found, roi.grid, predictor.model.labels) if kidney else 1.0
    kidney_hu = mean_kidney_hu(array, found.final, predictor.model.labels)
    return _SegmentedBox(kidney, confidence, on_source, kidney_hu, _estimate(predictor, found, roi.grid.spacing_mm))


def _estimate(predictor: Predictor, found: Segmentation, spacing_mm: Triple) -> MaskQuality | None:
    learned = predictor.quality.learned
    if not learned:
        return None
    labels = predictor.model.labels
    return learned.estimate(signs_of(found.probability, found.network, found.final, spacing_mm, labels))


def _confidence(kidney: FoundKidney, found: Segmentation, grid: Grid, labels: LabelSet) -> float:
    """Return the confidence of the localiser or, where that is in doubt, of the mask itself."""
    if kidney.confidence >= LOW_CONFIDENCE:
        return kidney.confidence
    return evidence_of(found.probability, found.network, grid.spacing_mm, labels).confidence


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
    warnings = tuple(f"{job.scan}: {warning}" for warning in prediction.warnings)
    if prediction.confidence and not prediction.segmented:
        return ScanReport(warnings=warnings[1:], failure=f"{warnings[0]}; the mask that was written is empty")
    volumes = ", ".join(f"{label} {volume:.1f} ml" for label, volume in prediction.volume_ml.items())
    return ScanReport(f"{job.stem}.nii.gz: {volumes}{_expected(prediction)}", warnings)


def _expected(prediction: Prediction) -> str:
    """Return the estimated Dice as the end of a line; empty where the bundle has no calibration."""
    kidneys = {f"{side} kidney": quality for side, quality in prediction.side_quality.items()}
    named = {"kidney": prediction.roi_quality} if prediction.roi_quality else kidneys
    words = [f"{name} {each.dice_kidney:.2f}, tumor {each.dice_tumor:.2f}" for name, each in named.items()]
    return f"; expected Dice: {'; '.join(words)}" if words else ""


# One model only, because its networks may fill the memory of a GPU.
@lru_cache(maxsize=1)
def _loaded(model: str, assignments: tuple[str, ...]) -> Predictor:
    return load_predictor(model, assignments)
