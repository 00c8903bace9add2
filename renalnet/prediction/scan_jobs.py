"""Predictions on the scans of a command line: one job a scan, one report a job.

A scan that fails does not stop the others.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from renalnet.data.cases.layouts import find_scans
from renalnet.data.cases.loading import load_scan
from renalnet.data.dicom.series import SeriesVolume
from renalnet.data.images.volume import Grid, write_volume
from renalnet.errors import InputError, RenalnetError
from renalnet.prediction.formats import formats_of, write_formats
from renalnet.prediction.outcome import Prediction, with_notes
from renalnet.prediction.output_names import absolute, free_stem, other_names, scan_names
from renalnet.prediction.predictor import Predictor, load_predictor, predict_image
from renalnet.prediction.provenance import Provenance, scan_digest
from renalnet.runtime import storage

Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelUse:
    """A model bundle, and how it is used: the arguments of `load_predictor`."""

    folder: str
    """Folder of the bundle."""
    assignments: tuple[str, ...] = ()
    """`key.sub=value` that override the bundle's `InferenceConfig`."""
    backend: str = "auto"
    """What computes the networks."""

    def load(self) -> Predictor:
        """Return the predictor. The one that was loaded last in this process stays there."""
        return _loaded(self)


@dataclass(frozen=True)
class ScanJob:
    """A scan to predict on."""

    scan: Path
    """File or folder of the scan."""
    stem: str
    """Path or URI of the files to write, without their endings."""
    model: ModelUse
    """The bundle to predict with."""
    series: str | None = None
    """Number or UID of the DICOM series to read; None where the folder holds one series."""
    phase: str | None = None
    """Number or time of the acquisition to read; None where the series holds one phase."""
    formats: tuple[str, ...] | None = None
    """Formats to write besides NIfTI; None for a DICOM segmentation of a DICOM series."""
    other_stems: tuple[str, ...] = ()
    """Further stems, in their order, for the case that files of another scan have `stem`."""

    def __str__(self) -> str:
        return str(self.scan)


@dataclass(frozen=True)
class ScanReport:
    """Messages about one scan."""

    line: str = ""
    """File and volumes of the mask; empty for a scan without a mask."""
    warnings: tuple[str, ...] = ()
    """Warnings about the mask."""
    failure: str = ""
    """Reason why there is no mask, why it is empty, or why a format was not written; else empty."""


Read: TypeAlias = tuple[SeriesVolume, Grid] | ScanReport


def list_jobs(
    paths: Sequence[Path],
    model: ModelUse,
    out: str,
    *,
    series: str | None = None,
    phase: str | None = None,
    formats: tuple[str, ...] | None = None,
) -> list[ScanJob]:
    """Return a job for each scan under the paths; a scan that is named twice gets one.

    Raises:
        InputError: no names tell the masks of two scans apart.
    """
    found = (scan for path in paths for scan in _scans_at(path, series))
    scans = list({absolute(scan): scan for scan in found}.values())
    names = scan_names(scans)
    return [
        ScanJob(
            scan,
            storage.join(out, name),
            model,
            series,
            phase,
            formats,
            tuple(storage.join(out, other) for other in others),
        )
        for scan, name, others in zip(scans, names, other_names(scans, names), strict=True)
    ]


def _scans_at(path: Path, series: str | None) -> list[Path]:
    """Return the scans at a path. A folder without a scan counts as one, whose job reports that."""
    try:
        return find_scans(path, series=series)
    except InputError:
        return [path]


def read_scan(job: ScanJob) -> Read:
    """Read a scan; a report of the failure where it cannot be read."""
    return _reported(job, partial(load_scan, job.scan, series=job.series, phase=job.phase))


def lost_scan(job: ScanJob, reason: str) -> ScanReport:
    """Return the report of a scan whose process died for a reason."""
    return ScanReport(failure=f"{job.scan}: {reason}")


def predict_scan(job: ScanJob, read: Read | None = None) -> ScanReport:
    """Segment a scan and write `<stem>.nii.gz`, `<stem>.json` and the job's formats.

    The mask and its JSON file are written first, so a format that cannot be written does not take them away. The model
    stays loaded in the process for the next scan.

    Args:
        job: the scan and the files to write.
        read: result of `read_scan`; None to read the scan here.
    """
    found = read_scan(job) if read is None else read
    return found if isinstance(found, ScanReport) else _reported(job, partial(_predict, job, *found))


def _predict(job: ScanJob, image: SeriesVolume, source: Grid) -> ScanReport:
    predictor = job.model.load()
    provenance = _provenance(job, image, predictor)
    job, notes = _named_apart(job, provenance.scan_sha256)  # before the segmentation, because it may be refused
    prediction = with_notes(predict_image(predictor, image, source), (*image.notes, *notes))
    write_volume(f"{job.stem}.nii.gz", prediction.mask)
    storage.write_json(f"{job.stem}.json", {**prediction.to_json(), "provenance": provenance.to_json()})
    formats = formats_of(job.scan, job.formats)
    labels = predictor.model.labels
    remarks = write_formats(
        job.stem, prediction.mask, labels, job.scan, formats=formats, series=job.series, phase=job.phase
    )
    return _report(job, prediction, list(remarks))


def _provenance(job: ScanJob, image: SeriesVolume, predictor: Predictor) -> Provenance:
    return Provenance(
        scan=str(absolute(job.scan)),
        scan_sha256=scan_digest(image.array),
        series=job.series,
        phase=job.phase,
        model=job.model.folder,
        model_sha256=predictor.model.sha256,
        localise=predictor.prepare.localise,
        inference=predictor.inference,
    )


def _named_apart(job: ScanJob, scan_sha256: str) -> tuple[ScanJob, tuple[str, ...]]:
    """Return the job with a stem that no other scan has, and a line where that is not its own."""
    stem = free_stem((job.stem, *job.other_stems), scan_sha256)
    if stem == job.stem:
        return job, ()
    note = f"{job.stem}.nii.gz is not known to be a mask of this scan and was kept; this mask is {stem}.nii.gz"
    return replace(job, stem=stem), (note,)


def _reported(job: ScanJob, work: Callable[[], Result]) -> Result | ScanReport:
    """Return the result of work on a scan, or a report of its failure, so that no scan stops the others.

    Errors that do not come from the scan are raised: those of the model, and of the files that are written.
    """
    try:
        return work()
    except InputError as error:
        return ScanReport(failure=str(error))
    except (RenalnetError, OSError):
        raise
    except Exception as error:  # what a scan can cause in a library has no common base class
        log.debug("%s: failed", job.scan, exc_info=True)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return ScanReport(failure=f"{job.scan}: failed with {reason}; repeat it with RENALNET_VERBOSE=1 for details")


def _report(job: ScanJob, prediction: Prediction, remarks: Sequence[InputError | str]) -> ScanReport:
    # A scan that is already cut to an ROI has no confidence; an empty mask of it is a warning, not a failure.
    warnings = [f"{job.scan}: {warning}" for warning in prediction.warnings]
    failures = [str(remark) for remark in remarks if isinstance(remark, InputError)]
    line = ""
    if prediction.confidence and not prediction.segmented:
        failures.insert(0, f"{warnings.pop(0)}; the mask that was written is empty")
    else:
        volumes = ", ".join(f"{label} {volume:.1f} ml" for label, volume in prediction.volume_ml.items())
        line = f"{job.stem}.nii.gz: {volumes}{_expected(prediction)}"
    warnings += [remark for remark in remarks if isinstance(remark, str)]
    return ScanReport(line, tuple(warnings), "; ".join(failures))


def _expected(prediction: Prediction) -> str:
    """Return the estimated Dice as the end of a line; empty where the bundle has no calibration."""
    kidneys = {f"{side} kidney": quality for side, quality in prediction.side_quality.items()}
    named = {"kidney": prediction.roi_quality} if prediction.roi_quality else kidneys
    words = [f"{name} {each.dice_kidney:.2f}, tumor {each.dice_tumor:.2f}" for name, each in named.items()]
    return f"; expected Dice: {'; '.join(words)}" if words else ""


# One model only, because its networks may fill the memory of a GPU.
@lru_cache(maxsize=1)
def _loaded(use: ModelUse) -> Predictor:
    return load_predictor(use.folder, use.assignments, backend=use.backend)
