"""Prediction on one scan: both kidneys are found, cut out, segmented and joined to a mask on the scan's own grid."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from renalnet.config import InferenceConfig, LabelSet, PrepareConfig, override
from renalnet.data.cases.loading import load_scan
from renalnet.data.cases.roi import cut_scan, is_cut
from renalnet.data.cases.sides import SIDES, Side
from renalnet.data.images.hounsfield import to_hounsfield
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.localise.atlas import ATLAS_FILE, load_atlases
from renalnet.data.localise.localiser import LOW_CONFIDENCE, FoundKidney
from renalnet.errors import CheckpointError, InputError
from renalnet.evaluation.mask_quality import signs_of
from renalnet.evaluation.plausibility import implausible
from renalnet.inference.pipeline import Model, Segmentation, load_bundle, segment_roi
from renalnet.inference.quality_file import BundleQuality, MaskQuality, read_quality
from renalnet.inference.scan_labels import labels_on_scan
from renalnet.inference.stitching import Stitched
from renalnet.localiser.bundle_files import LOCALISER_FILE
from renalnet.localiser.finder import KidneyFinder
from renalnet.localiser.kidneys import CoarseKidney
from renalnet.localiser.network import load_network, packaged_network
from renalnet.nets.packaged import bundle_folder
from renalnet.prediction.familiarity import mean_kidney_hu
from renalnet.prediction.mask_evidence import evidence_of
from renalnet.prediction.outcome import Prediction, SegmentedBox, doubts_of, remarks_of, with_notes
from renalnet.prediction.place import prior_of, with_prior
from renalnet.runtime import storage
from renalnet.types import HuArray, LabelArray, Shape, Triple

LOCALISE: Final = "localise"
"""Key of the setting of `PrepareConfig` that predictions may change."""
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

    def segment_file(self, path: str | Path, *, series: str | None = None, phase: str | None = None) -> Prediction:
        """Segment a scan: a NIfTI, NRRD or MetaImage file, or a folder of DICOM slices.

        Args:
            path: the file or the folder.
            series: number or SeriesInstanceUID of the series to read where the folder holds several.
            phase: number or time of the acquisition to read where the series holds several phases.

        Returns:
            A mask on the grid of the file, and what is known of it.

        Raises:
            InputError: the scan is missing, damaged, or not a CT that can be read.
        """
        image, source = load_scan(Path(path), series=series, phase=phase)
        return with_notes(predict_image(self, image, source), image.notes)

    def segment_array(self, hu: HuArray, spacing_mm: Triple) -> Prediction:
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


def load_predictor(folder: str | Path, assignments: Sequence[str] = (), *, backend: str = "auto") -> Predictor:
    """Load the `best` folder of a study, the folder of a finished `renalnet train`, or the packaged bundle.

    The bundle of `renalnet train` is used with the default post-processing.

    Args:
        folder: folder of the bundle; `packaged` for the bundle of the package.
        assignments: `key.sub=value` that override the bundle's `InferenceConfig`, and `localise=…`, which overrides how
            its `PrepareConfig` finds kidneys: `cut` takes every scan as an ROI that is already cut.
        backend: what computes the networks: `torch`; `openvino`; or `auto` for OpenVINO where it is installed, the
            device is a processor, and it is measured to be faster than PyTorch.

    Raises:
        CheckpointError: the folder is none of these, or is damaged.
        ConfigError: an assignment is wrong, or the backend is unknown or cannot be used here.
    """
    folder = storage.absolute(bundle_folder(folder))
    model = load_bundle(folder, backend)
    prepare = model.config.roi
    if prepare is None or not storage.exists(storage.join(folder, ATLAS_FILE)):
        raise CheckpointError(
            f"{folder}: states no ROI configuration or lacks {ATLAS_FILE}; name the `best` folder of a study, or the "
            "folder of a finished `renalnet train`"
        )
    found_by = [each for each in assignments if each.partition("=")[0] == LOCALISE]
    prepare = override(prepare, found_by)
    inference = override(model.config.inference, [each for each in assignments if each not in found_by])
    return Predictor(model, _finder(folder, prepare), prepare, inference, read_quality(folder))


def _finder(folder: str | Path, prepare: PrepareConfig) -> KidneyFinder:
    own = storage.join(folder, LOCALISER_FILE)
    # The atlases alone, which a bundle of an older version has, miss too many kidneys of real scans.
    network = load_network(own) if storage.exists(own) else packaged_network()
    return KidneyFinder(network, load_atlases(storage.join(folder, ATLAS_FILE)), prepare)


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
    warnings = doubts_of(confidence, kept, predictor.prepare, is_empty=not array.any())
    return Prediction(
        mask=Volume(array, source),
        volume_ml=_volume_ml(array, source, labels),
        side_ml=by_side,
        confidence=confidence,
        segmented=tuple(kept),
        warnings=(
            *warnings,
            *remarks_of(image, predictor.quality.training, kept, roi),
            *_implausible(predictor, kept, roi, source),
        ),
        side_quality={side: each.quality for side, each in kept.items() if each.quality},
        roi_quality=roi.quality if roi else None,
        backends=tuple(dict.fromkeys(each.backend for each in [*tried.values(), *([roi] if roi else [])])),
    )


def _implausible(
    predictor: Predictor, kept: Mapping[Side, SegmentedBox], roi: SegmentedBox | None, source: Grid
) -> Iterator[str]:
    kidneys = {"the kidney": roi} if roi else {f"{side} kidney": each for side, each in kept.items()}
    for name, each in kidneys.items():
        yield from implausible(each.labels, source.spacing_mm, predictor.model.labels, name)


def _segment_kidneys(predictor: Predictor, image: Volume, source: Grid) -> dict[Side, SegmentedBox]:
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


def _segment_box(predictor: Predictor, image: Volume, kidney: FoundKidney | None, source: Grid) -> SegmentedBox:
    """Segment the ROI of a kidney, or the whole scan if `kidney` is None."""
    roi = cut_scan(image, kidney.box if kidney else None, predictor.prepare)
    array = np.ascontiguousarray(roi.array)
    found = segment_roi(
        predictor.model, array, roi.grid.spacing_mm, predictor.inference, _adjustment(predictor, kidney, roi.grid)
    )
    on_source = labels_on_scan(found.final, found.adjusted.probability, roi.grid, source)
    confidence = _confidence(kidney, found, roi.grid, predictor.model.labels) if kidney else 1.0
    kidney_hu = mean_kidney_hu(array, found.final, predictor.model.labels)
    quality = None if kidney and _is_partial(kidney) else _estimate(predictor, found, roi.grid.spacing_mm)
    return SegmentedBox(kidney, confidence, on_source, kidney_hu, quality, found.backend)


def _is_partial(kidney: FoundKidney) -> bool:
    """Return whether the scan ends within the kidney. A calibration is learned from kidneys that are shown whole."""
    return isinstance(kidney.evidence, CoarseKidney) and kidney.evidence.num_cut_ends > 0


def _adjustment(predictor: Predictor, kidney: FoundKidney | None, grid: Grid) -> Callable[[Stitched], Stitched]:
    """Return the change of a vote by the place of the kidney, where the coarse network has found it."""
    if kidney is None or not isinstance(kidney.evidence, CoarseKidney):
        return lambda vote: vote
    prior = prior_of(kidney.evidence.mask, grid)
    return lambda vote: with_prior(vote, prior, predictor.model.labels)


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
    # The mask is the one that will be written, and its certainty that of the networks alone.
    return evidence_of(found.probability, found.adjusted.labels, grid.spacing_mm, labels).confidence
