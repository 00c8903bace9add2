"""The work on a single case (check, atlas, cut), as functions that other processes and other machines can run."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Final

from renalnet.config import KIDNEY_TUMOR, PhantomConfig, PrepareConfig, fingerprint
from renalnet.data.cases.findings import Finding, unreadable_case
from renalnet.data.cases.loading import LoadedCase, ScanCase, load_case
from renalnet.data.cases.roi import cut_roi, is_cut, isolate_kidney
from renalnet.data.cases.sides import Box, Side
from renalnet.data.checks.case_checks import check_case
from renalnet.data.dicom.folders import files_below
from renalnet.data.images.volume import DETACHED_HEADERS, image_stem
from renalnet.data.localise.atlas import Atlas, describe_candidate, load_atlases, make_atlas
from renalnet.data.localise.localiser import LOW_CONFIDENCE, Evidence
from renalnet.data.phantom import paint_abdomen
from renalnet.data.prepare.check_journal import Inspection
from renalnet.data.prepare.place_checks import check_place
from renalnet.data.store.index import Origin
from renalnet.data.store.reader import Roi
from renalnet.errors import InputError, RenalnetError
from renalnet.localiser.finder import KidneyFinder
from renalnet.types import Split

# Stores keep these two notes, and summaries count them, so their wording must not change.
NOT_LOCALISED: Final = "localisation missed the labelled kidney; the label's own box was used"
DOUBTFUL: Final = "localisation doubtful"
PHANTOM_PREFIX: Final = "phantom-"
"""Prefix of the names of atlases that are made of phantoms."""
_FOUND_SHARE: Final = 0.5
"""Share of the labelled voxels that the box of the localiser must contain."""


@dataclass(frozen=True)
class InspectJob:
    """A scan to read and check."""

    scan: ScanCase
    config: PrepareConfig

    def __str__(self) -> str:
        return self.scan.case


def inspect_case(job: InspectJob) -> Inspection:
    """Read and check a scan; a scan that cannot be read gives a finding instead of an error."""
    stamp = scan_stamp(job.scan)
    try:
        loaded = load_case(job.scan)
    except RenalnetError as error:
        return Inspection(job.scan.case, stamp, None, (unreadable_case(job.scan.case, error),))
    facts, findings = check_case(loaded)
    findings += [Finding(job.scan.case, "warning", "dicom-series", note) for note in loaded.notes]
    if is_cut(loaded.image.grid, job.config):
        return Inspection(job.scan.case, stamp, facts, tuple(findings))
    candidate = describe_candidate(job.scan.case, loaded.image, loaded.body)
    # An error of the case itself, such as values that are no CT numbers, explains what the localiser would find.
    # A network that begins at random is what makes the packaged one, which would judge here.
    is_judged = job.config.localiser_start == "packaged"
    if is_judged and not any(finding.level == "error" for finding in findings):
        findings += check_place(loaded)
    return Inspection(job.scan.case, stamp, facts, tuple(findings), candidate)


def inspection_died(job: InspectJob, reason: str) -> Inspection:
    """Return the inspection of a scan whose reader ended its process, for instance by lack of memory."""
    error = InputError(f"{job.scan.image}: {reason}")
    return Inspection(job.scan.case, scan_stamp(job.scan), None, (unreadable_case(job.scan.case, error),))


def scan_stamp(scan: ScanCase) -> str:
    """Return sixteen hexadecimal digits of the names, sizes and times of a scan's files and of how they are read."""
    files = [(str(path), *_size_and_time(path)) for path in _files(scan)]
    # Stamps of earlier versions, which had the default labels only, stay valid.
    labels = [] if scan.labels == KIDNEY_TUMOR else [fingerprint(scan.labels)]
    phase = [f"phase {scan.phase}"] if scan.phase else []
    return hashlib.sha256(json.dumps([repr(scan), files, *labels, *phase]).encode()).hexdigest()[:16]


def _size_and_time(path: Path) -> tuple[int, ...]:
    """Return size and time of a file; empty for a missing or unreadable file, which reading reports."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns


def _files(scan: ScanCase) -> Iterator[Path]:
    for path in (scan.image, scan.label):
        if path.is_dir():
            yield from files_below(path)
        elif path.name.lower().endswith(DETACHED_HEADERS):
            yield from sorted(path.parent.glob(f"{escape(image_stem(path.name) or path.stem)}.*"))
        else:
            yield path


@dataclass(frozen=True)
class AtlasJob:
    """An atlas to make, of a case or of a phantom."""

    config: PrepareConfig
    synthetic: bool
    """Whether the scans were painted."""
    scan: ScanCase | None
    """The scan of the case; None for a phantom."""
    phantom_index: int
    """Number of the phantom."""

    def __str__(self) -> str:
        return self.scan.case if self.scan else f"{PHANTOM_PREFIX}{self.phantom_index}"


def atlas_of(job: AtlasJob) -> Atlas:
    """Return the atlas of a job."""
    if job.scan:
        loaded = load_case(job.scan)
        return make_atlas(job.scan.case, loaded.image, loaded.body, job.config, synthetic=job.synthetic)
    # Not the seed of a painted cohort, which would make a case its own atlas.
    painted = paint_abdomen(PhantomConfig(seed=job.config.seed + 1, contrast="narrow"), job.phantom_index)
    return make_atlas(str(job), painted.image, painted.label, job.config, synthetic=True)


@dataclass(frozen=True)
class CutJob:
    """A scan to localise and cut."""

    scan: ScanCase
    split: Split
    origin: Origin
    atlases: str
    """Path of the atlases, which each process reads once."""
    localiser: str | None
    """Path of the localiser's network, likewise; None in a store of an older version, which has none."""
    config: PrepareConfig

    def __str__(self) -> str:
        return self.scan.case


def cut_case(job: CutJob) -> tuple[Roi, Origin]:
    """Localise the lesioned kidney of a scan and cut its ROI; the notes of the ROI name deviations."""
    loaded = load_case(job.scan)
    box = None
    notes: list[str] = []
    if not is_cut(loaded.image.grid, job.config):
        loaded, side = isolate_kidney(loaded, job.config.seed)
        box, notes = _locate(loaded, side, job)
    cut = cut_roi(loaded, box, job.config)
    all_notes = (*notes, *cut.notes)
    return Roi(job.scan.case, job.split, cut.image, cut.label, cut.grid, loaded.source, all_notes), job.origin


def _locate(loaded: LoadedCase, side: Side, job: CutJob) -> tuple[Box | None, list[str]]:
    """Return the box of the kidney as `predict` would cut it where it was found, else the box of the label."""
    # A case must not find itself by the atlas that was made of it.
    found = _finder(job.atlases, job.localiser, job.config).find(loaded.image, exclude=loaded.case)
    confidence = found.confidence_of(side)
    notes = [f"{DOUBTFUL} (confidence {confidence:.2f})"] if confidence < LOW_CONFIDENCE else []
    kidney = found.kidney(side)
    mask = loaded.body.array > 0
    if kidney is None or kidney.box.share_of(mask, loaded.label.grid) < _FOUND_SHARE:
        return Box.around(mask, loaded.label.grid), [*notes, NOT_LOCALISED]
    # The outline of the atlases is enough, because the ROI is enlarged where the label exceeds it; most ROIs thus keep
    # the paper's width.
    return kidney.outline if isinstance(kidney.evidence, Evidence) else kidney.box, notes


# One is enough, because the workers of a preparation use the files of one store.
@lru_cache(maxsize=1)
def _finder(atlases: str, localiser: str | None, config: PrepareConfig) -> KidneyFinder:
    # Imports PyTorch, which cases that are already cut to their ROI do not need.
    from renalnet.localiser.network import load_network

    return KidneyFinder(load_network(localiser) if localiser else None, load_atlases(atlases), config)
