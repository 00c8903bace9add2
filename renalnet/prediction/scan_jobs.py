"""Predictions on the scans of a command line: one job a scan, one report a job.

A scan that fails does not stop the others.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from renalnet.data.cases.layouts import find_scans
from renalnet.data.cases.loading import load_scan
from renalnet.data.cases.names import MAX_BYTES
from renalnet.data.dicom.series import SeriesVolume
from renalnet.data.images.volume import Grid, image_stem, write_volume
from renalnet.errors import InputError, RenalnetError
from renalnet.prediction.formats import formats_of, write_formats
from renalnet.prediction.outcome import Prediction, with_notes
from renalnet.prediction.predictor import Predictor, load_predictor, predict_image
from renalnet.runtime import storage

Result = TypeVar("Result")
log = logging.getLogger(__name__)
_HASH_DIGITS: Final = 8


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
    scans = list({_absolute(scan): scan for scan in found}.values())
    stems = [storage.join(out, name) for name in scan_names(scans)]
    return [ScanJob(scan, stem, model, series, phase, formats) for scan, stem in zip(scans, stems, strict=True)]


def _scans_at(path: Path, series: str | None) -> list[Path]:
    """Return the scans at a path. A folder without a scan counts as one, whose job reports that."""
    try:
        return find_scans(path, series=series)
    except InputError:
        return [path]


def scan_names(scans: Sequence[Path]) -> list[str]:
    """Return a name for the mask of each of different scans.

    The name is that of the file or DICOM folder. Scans of the same name get the name of the folder around them, and
    where that is the same, too, the names of as many folders as tell them apart: `patient-1_study` and
    `patient-2_study`. Files of one folder that differ in their ending alone keep the ending in the name. A name of more
    than `MAX_BYTES` bytes is cut, and a hash of the whole name follows.

    Raises:
        InputError: two scans still have the same name.
    """
    stems = _stems(scans)
    num_folders = Counter(dict.fromkeys(stems, 0))
    shared = set(stems)
    deepest = max((len(scan.absolute().parts) for scan in scans), default=0)
    for _ in range(deepest + 1):
        names = [_name(scan, stem, num_folders[stem]) for scan, stem in zip(scans, stems, strict=True)]
        uses = Counter(names)
        shared = {stem for name, stem in zip(names, stems, strict=True) if uses[name] > 1}
        if not shared:
            return [_short(name) for name in names]
        num_folders.update(shared)
    raise InputError(f"two scans would write the mask '{min(shared)}'; predict them into different folders")


def _short(name: str) -> str:
    """Return a name to which all endings of our files can be added."""
    content = name.encode("utf-8", "surrogateescape")
    if len(content) <= MAX_BYTES:
        return name
    end = f"-{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}"
    return content[: MAX_BYTES - len(end)].decode("utf-8", "ignore") + end


def _absolute(scan: Path) -> Path:
    """Return an absolute path without `..`, in which symbolic links keep their names."""
    return Path(os.path.normpath(scan.absolute()))


def _stems(scans: Sequence[Path]) -> list[str]:
    """Return the name of each file without its ending, or with it where another file of the folder has that name."""
    uses = Counter(_absolute(scan).parent / _stem(scan) for scan in scans)
    return [
        scan.name.replace(".", "_") if uses[_absolute(scan).parent / _stem(scan)] > 1 else _stem(scan) for scan in scans
    ]


def _name(scan: Path, stem: str, num_folders: int) -> str:
    """Return the name of a scan by the innermost folders around it; its stem for none."""
    # `Path("ct.nii.gz").parent` has no name unless the path is absolute.
    return "_".join(_absolute(scan).parent.parts[1:][-num_folders:]) if num_folders else stem


def _stem(scan: Path) -> str:
    if scan.is_dir():
        return _absolute(scan).name
    return image_stem(scan.name) or scan.name.removesuffix(".dcm")


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
    prediction = with_notes(predict_image(predictor, image, source), image.notes)
    write_volume(f"{job.stem}.nii.gz", prediction.mask)
    storage.write_json(f"{job.stem}.json", prediction.to_json())
    formats = formats_of(job.scan, job.formats)
    labels = predictor.model.labels
    remarks = write_formats(
        job.stem, prediction.mask, labels, job.scan, formats=formats, series=job.series, phase=job.phase
    )
    return _report(job, prediction, list(remarks))


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
