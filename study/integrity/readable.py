"""Whether a file of a results folder can be read as what its name says, for files without an entry in the ledger."""

import gzip
import re
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Final

from renalnet.errors import RenalnetError, ResultsError
from renalnet.inference.quality_file import QUALITY_FILE, read_quality
from renalnet.nets.bundle import load_model, model_digest
from renalnet.runtime import storage
from study.final.post_processing import chosen_from
from study.final.quality import read_signs
from study.final.views import read_labels
from study.integrity.kinds import BEST, SELECTION, WEIGHTS
from study.records.files import damaged, read_named_arrays, read_object
from study.records.parquet import read_rows
from study.records.results import (
    CURVES_TABLE,
    EFFECTS_TABLE,
    IMPORTANCES_TABLE,
    INTERACTIONS_TABLE,
    TRIALS_TABLE,
    Results,
)
from study.records.tables import (
    Effect,
    Epoch,
    Importance,
    InteractionCell,
    Measurement,
    PlanningSheet,
    Quality,
    StageMeasurement,
    Trial,
)
from study.records.trials import find_record, read_epochs

_BLOCK_BYTES: Final = 1 << 20
_MAX_MASK_BYTES: Final = 1 << 34
"""Largest mask that is unpacked: 16 GiB, more than any scan has voxels."""
_HEADER_SIZES: Final = (348, 540)
"""First number of a NIfTI-1 and of a NIfTI-2 file."""
_ROWS: Final = {
    TRIALS_TABLE: Trial,
    CURVES_TABLE: Epoch,
    IMPORTANCES_TABLE: Importance,
    EFFECTS_TABLE: Effect,
    INTERACTIONS_TABLE: InteractionCell,
    "final/metrics.parquet": Measurement,
    "final/quality.parquet": Quality,
    "final/plan.parquet": PlanningSheet,
}


def unreadable(results: Results, name: str) -> str:
    """Return why a file cannot be read; empty where it can be, or where no reader is known."""
    for pattern, read in _READERS:
        if found := pattern.fullmatch(name):
            try:
                read(results, found)
            except (RenalnetError, KeyError, TypeError, AttributeError) as error:
                return _reason(results.path(name), error)
    return ""


def _reason(path: str, error: Exception) -> str:
    """Return what is wrong with a file, without its path and the remedy of the reader's message."""
    if not isinstance(error, RenalnetError):
        return f"no value of {error}" if isinstance(error, KeyError) else f"{error}"
    what = f"{error}".split("; ")[0].removeprefix(path).lstrip(": ")
    return what.removeprefix("is damaged (").removesuffix(")") if what.startswith("is damaged (") else what


def _record(results: Results, found: re.Match[str]) -> None:
    record = find_record(results, found[1])
    if record is not None and record.name != found[1]:
        raise damaged(results.path(found[0]), f"it is the record of {record.name}")


def _log(results: Results, found: re.Match[str]) -> None:
    record = find_record(results, found[1])
    # A run that has not ended an epoch has an empty log.
    if not read_epochs(results, found[1]) and record is not None and record.state in ("complete", "pruned"):
        raise damaged(results.path(found[0]), "it is empty")


def _bundle(results: Results, found: re.Match[str]) -> None:
    folder = results.path(*found[0].split("/")[:-1])
    if found["file"] == "model.safetensors":
        load_model(folder)
    elif found["file"] == "config.json":
        model_digest(folder)
    elif found["file"] == QUALITY_FILE:
        read_quality(folder)


def _table(results: Results, found: re.Match[str]) -> None:
    read_rows(results.path(found[0]), _ROWS[found[0]])


def _part(results: Results, found: re.Match[str]) -> None:
    if not read_rows(results.path(found[0]), StageMeasurement):
        raise damaged(results.path(found[0]), "it has no rows")


def _signs(results: Results, found: re.Match[str]) -> None:
    read_signs(results.path(found[0]))


def _labels(results: Results, found: re.Match[str]) -> None:
    read_labels(results, found[1], found[2])


def _view(results: Results, found: re.Match[str]) -> None:
    read_named_arrays(results.path(found[0]), ("image", "truth", "spacing_mm"))


def _selection(results: Results, found: re.Match[str]) -> None:
    values = read_object(results.path(found[0]))
    if values["winner"] not in values["candidates"]:
        raise damaged(results.path(found[0]), "its winner is none of its finalists")


def _post_processing(results: Results, found: re.Match[str]) -> None:
    chosen_from(read_object(results.path(found[0])))


def _post_processings(results: Results, found: re.Match[str]) -> None:
    for values in read_object(results.path(found[0])).values():
        chosen_from(values)


def _mask(results: Results, found: re.Match[str]) -> None:
    """Unpack a NIfTI file to its end, because only that compares its checksum."""
    path = results.path(found[0])
    num_bytes = 0
    try:
        with gzip.open(BytesIO(storage.read_bytes(path))) as stream:
            start = stream.read(4)
            while (block := stream.read(_BLOCK_BYTES)) and num_bytes < _MAX_MASK_BYTES:
                num_bytes += len(block)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ResultsError(f"{path} is no readable .nii.gz file ({error})") from error
    if int.from_bytes(start, "little") not in _HEADER_SIZES or not 0 < num_bytes < _MAX_MASK_BYTES:
        raise damaged(path, "not a NIfTI file")


_READERS: Final[tuple[tuple[re.Pattern[str], Callable[[Results, re.Match[str]], None]], ...]] = (
    (re.compile(r"trials/([^/]+)/trial\.json"), _record),
    (re.compile(r"trials/([^/]+)/epochs\.jsonl"), _log),
    (WEIGHTS, _bundle),
    (BEST, _bundle),
    (re.compile("|".join(map(re.escape, _ROWS))), _table),
    (re.compile(r"final/parts/.*\.parquet"), _part),
    (re.compile(r"final/signs/.*\.json"), _signs),
    (re.compile(r"final/roi_labels/([^/]+)/([^/]+)\.npz"), _labels),
    (re.compile(r"final/views/.*\.npz"), _view),
    (SELECTION, _selection),
    (re.compile(r"final/steps/.*\.json"), _post_processing),
    (re.compile(r"final/steps\.json"), _post_processings),
    (re.compile(r"final/masks/.*\.nii\.gz"), _mask),
)
