"""A folder of scans to a store of ROIs: find, check, split, localise, cut, write.

The steps of one patient are functions of their own, so that another executor (a cluster) can run them.
"""

import hashlib
import json
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np

from renalnet import storage
from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.atlas import Atlas, make_atlas, save_atlases
from renalnet.data.ingest import LoadedCase, ScanCase, find_cases, load_case
from renalnet.data.kidneys import Box, Side
from renalnet.data.localise import LOW_CONFIDENCE, localise
from renalnet.data.phantom import COHORT_FILE, paint_abdomen
from renalnet.data.preprocess import GROWN, cut_roi, is_cut, isolate_kidney
from renalnet.data.splits import assign_splits
from renalnet.data.store import MANIFEST, Provenance, Roi, StoreWriter, open_store
from renalnet.data.validate import Finding, check_case, check_cohort, image_digest, label_digest
from renalnet.data.volume import Grid, use_threads
from renalnet.errors import InputError, StoreError
from renalnet.types import SPLITS, Split

ATLAS_FILE: Final = "atlas.safetensors"
NOT_LOCALISED: Final = "localisation missed the labelled kidney; the label's own box was used"
DOUBTFUL: Final = "localisation doubtful"
_FOUND_SHARE: Final = 0.5

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told the stage, and how many of how many cases are done."""
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class PrepareSummary:
    """What a preparation did."""

    path: str
    num_cases: dict[Split, int]
    class_shares: dict[Split, tuple[float, float, float]]
    """Shares of the voxels that are background, kidney, tumor."""
    num_grown: int
    """ROIs whose window grew to hold every labelled voxel."""
    num_not_localised: int
    """Labelled cases whose kidney was not found and whose label gave the box."""
    notes: tuple[str, ...]
    """Warnings."""


@dataclass(frozen=True)
class Inspection:
    """What is to be known of a case before any is cut."""

    scan: ScanCase
    grid: Grid
    """Of the canonical image."""
    findings: tuple[Finding, ...]
    image_digest: str
    label_digest: str


@dataclass(frozen=True)
class CutJob:
    """A case to localise and cut."""

    scan: ScanCase
    split: Split
    atlases: tuple[Atlas, ...]
    config: PrepareConfig


def prepare(
    src: str | Path,
    out: str | Path,
    config: PrepareConfig,
    *,
    test_src: str | Path | None = None,
    splits: Mapping[str, Split] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> PrepareSummary:
    """Prepare the store `out` from the labelled scans below `src`; the result does not depend on `workers`.

    Args:
        test_src: a second folder, whose cases are all held out.
        splits: fixed splits of some or all cases; the others are drawn (see `assign_splits`).

    Raises:
        InputError: a folder, file or case cannot be used; all cases are checked before the first is cut.
        ConfigError: `splits` names an unknown case.
        StoreError: `out` holds a store of other cases, splits or configuration.
    """
    scans, held_out = _find_all(src, test_src)
    notify = progress or _silent
    with _workers(min(workers, len(scans))) as pool:
        inspections = _track("check", pool.map(inspect_case, scans), len(scans), notify)
        notes = _judge(inspections)
        names = [scan.case for scan in scans]
        assigned = assign_splits(names, config=config, test_cases=held_out, splits=splits)
        about = Provenance(_digest(inspections, assigned), _is_synthetic(src, test_src))
        if storage.exists(storage.join(out, MANIFEST)):
            return _unchanged(out, config, about)
        atlases = _make_atlases(inspections, assigned, config, about.synthetic, pool)
        jobs = [CutJob(scan, assigned[scan.case], atlases, config) for scan in scans]
        writer = StoreWriter(out, config)
        save_atlases(storage.join(out, ATLAS_FILE), atlases)
        for done, roi in enumerate(pool.map(cut_case, jobs), start=1):
            writer.add(roi)
            notes += [f"{roi.case}: {note}" for note in roi.notes]
            notify("cut", done, len(jobs))
    writer.finish(notes=notes, about=about)
    return summarise(out)


def inspect_case(scan: ScanCase) -> Inspection:
    """Read and check a case. Raises InputError where it cannot be read."""
    loaded = load_case(scan)
    findings = tuple(check_case(loaded))
    return Inspection(scan, loaded.image.grid, findings, image_digest(loaded), label_digest(loaded))


def cut_case(job: CutJob) -> Roi:
    """Localise the lesioned kidney of a case and cut its ROI; its notes say what went other than planned."""
    loaded = load_case(job.scan)
    box, notes = None, list[str]()
    if not is_cut(loaded.image.grid, job.config):
        loaded, side = isolate_kidney(loaded, job.config.seed)
        box, notes = _locate(loaded, side, job)
    cut = cut_roi(loaded, box, job.config)
    return Roi(job.scan.case, job.split, cut.image, cut.label, cut.grid, loaded.source, (*notes, *cut.notes))


def summarise(path: str | Path) -> PrepareSummary:
    """The summary of a prepared store. Raises StoreError."""
    manifest = open_store(path).manifest
    entries = {split: [entry for entry in manifest.cases if entry.split == split] for split in SPLITS}
    totals = {split: np.sum([entry.counts for entry in entries[split]], axis=0) for split in SPLITS if entries[split]}
    shares = {split: total / total.sum() for split, total in totals.items()}
    all_notes = [note for entry in manifest.cases for note in entry.notes]
    return PrepareSummary(
        path=str(path),
        num_cases={split: len(entries[split]) for split in SPLITS},
        class_shares={split: (float(b), float(k), float(t)) for split, (b, k, t) in shares.items()},
        num_grown=all_notes.count(GROWN),
        num_not_localised=all_notes.count(NOT_LOCALISED),
        notes=manifest.notes,
    )


def _locate(loaded: LoadedCase, side: Side, job: CutJob) -> tuple[Box | None, list[str]]:
    """The localised box where it holds most of the labelled kidney, else the label's own."""
    found = localise(loaded.image, job.atlases, job.config, exclude=loaded.case)
    confidence, kidney = found.confidence_of(side), found.on(side)
    notes = [f"{DOUBTFUL} (confidence {confidence:.2f})"] if confidence < LOW_CONFIDENCE else []
    mask = loaded.label.array > 0
    if kidney is None or kidney.box.share_of(mask, loaded.label.grid) < _FOUND_SHARE:
        return Box.around(mask, loaded.label.grid), [*notes, NOT_LOCALISED]
    return kidney.outline, notes


def _find_all(src: str | Path, test_src: str | Path | None) -> tuple[list[ScanCase], list[str]]:
    scans = find_cases(src)
    held_out = find_cases(test_src) if test_src else []
    twice = {scan.case for scan in scans} & {scan.case for scan in held_out}
    if twice:
        raise InputError(f"case '{min(twice)}' is in {src} and in {test_src}; remove or rename one of them")
    return sorted([*scans, *held_out], key=lambda scan: scan.case), [scan.case for scan in held_out]


def _judge(inspections: Sequence[Inspection]) -> list[str]:
    """The warnings. Raises InputError for the first error, counting the others."""
    findings = [finding for inspection in inspections for finding in inspection.findings]
    findings += check_cohort({inspection.scan.case: inspection.image_digest for inspection in inspections})
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0]}{more}")
    return [str(finding) for finding in findings]


def _digest(inspections: Sequence[Inspection], assigned: Mapping[str, Split]) -> str:
    """Equal for equal images, labels, names and splits."""
    rows = [[i.scan.case, assigned[i.scan.case], i.image_digest, i.label_digest] for i in inspections]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _is_synthetic(*sources: str | Path | None) -> bool:
    """Whether any of the folders was written by the phantom painter."""
    return any((Path(source) / COHORT_FILE).is_file() for source in sources if source)


def _unchanged(out: str | Path, config: PrepareConfig, about: Provenance) -> PrepareSummary:
    existing = open_store(out).manifest
    if existing.config != config or existing.about != about:
        raise StoreError(f"{out}: holds a store of other cases, splits or settings; choose another folder")
    return summarise(out)


def _make_atlases(
    inspections: Sequence[Inspection],
    assigned: Mapping[str, Split],
    config: PrepareConfig,
    synthetic: bool,
    pool: "_Workers",
) -> tuple[Atlas, ...]:
    """Atlases of training patients, drawn by the seed; phantoms where too few have a whole CT."""
    usable = [i.scan for i in inspections if assigned[i.scan.case] == "train" and not is_cut(i.grid, config)]
    order = np.random.default_rng(config.seed).permutation(len(usable))[: config.num_atlases]
    jobs = [AtlasJob(config, synthetic, usable[index], 0) for index in sorted(order)]
    jobs += [AtlasJob(config, True, None, index) for index in range(config.num_atlases - len(jobs))]
    return tuple(pool.map(atlas_of, jobs))


@dataclass(frozen=True)
class AtlasJob:
    """An atlas to make: of a patient, or where there is none, of a phantom."""

    config: PrepareConfig
    synthetic: bool
    scan: ScanCase | None
    phantom_index: int


def atlas_of(job: AtlasJob) -> Atlas:
    """Make an atlas."""
    if job.scan:
        loaded = load_case(job.scan)
        return make_atlas(job.scan.case, loaded.image, loaded.label, job.config, synthetic=job.synthetic)
    # Another seed than a cohort's own, so that no phantom is the patient it is to help find.
    painted = paint_abdomen(PhantomConfig(seed=job.config.seed + 1), job.phantom_index)
    name = f"phantom-{job.phantom_index}"
    return make_atlas(name, painted.image, painted.label, job.config, synthetic=True)


@dataclass(frozen=True)
class _Workers:
    """Applies a function to jobs in order: here, or in processes with a few results waiting at most."""

    pool: ProcessPoolExecutor | None
    num_waiting: int

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        if self.pool is None:
            yield from map(function, jobs)
            return
        pending: deque[Future[Result]] = deque()
        for job in jobs:
            if len(pending) >= self.num_waiting:
                yield pending.popleft().result()
            pending.append(self.pool.submit(function, job))
        while pending:
            yield pending.popleft().result()


@contextmanager
def _workers(count: int) -> Iterator[_Workers]:
    if count <= 1:
        yield _Workers(None, 0)
        return
    # Spawned, not forked: a forked child inherits locks of the image library's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=use_threads, initargs=(1,))
    try:
        yield _Workers(pool, 2 * count)
    finally:
        pool.shutdown(cancel_futures=True)


def _track(stage: str, results: Iterator[Result], total: int, notify: Progress) -> list[Result]:
    collected = []
    for result in results:
        collected.append(result)
        notify(stage, len(collected), total)
    return collected


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""
