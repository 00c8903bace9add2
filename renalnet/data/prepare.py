"""A folder of scans to a store of ROIs: find, check, split, localise, cut, write; or more of them to a store.

What is done of a patient is in `cutting`, as functions that run in any pool of processes or tasks. A preparation that
was interrupted goes on where it stopped: checked scans are in a journal, cut ones in the shards that were full.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from renalnet import storage
from renalnet.config import PrepareConfig, fingerprint
from renalnet.data.atlas import choose_atlases, save_atlases
from renalnet.data.check.cohort_checks import check_cohort
from renalnet.data.check.cohort_table import SummaryRow, summarise_facts
from renalnet.data.check.facts import CaseFacts
from renalnet.data.check.findings import Finding, split_bad
from renalnet.data.check.journal import CheckJournal, Inspection
from renalnet.data.check.validation_file import FACTS_FILE, write_validation
from renalnet.data.cutting import (
    NOT_LOCALISED,
    AtlasJob,
    CutJob,
    InspectJob,
    atlas_of,
    cut_case,
    inspect_case,
    inspection_died,
    scan_stamp,
)
from renalnet.data.ingest import ScanCase, find_cases
from renalnet.data.manifest import Provenance
from renalnet.data.phantom import COHORT_FILE
from renalnet.data.preprocess import GROWN
from renalnet.data.splits import assign_splits
from renalnet.data.store import MANIFEST, Store, open_store
from renalnet.data.store_writer import StoreWriter
from renalnet.data.volume import use_threads
from renalnet.errors import InputError, StoreError
from renalnet.lease import Lease
from renalnet.types import SPLITS, Split
from renalnet.workers import JobPool, Workers

ATLAS_FILE: Final = "atlas.safetensors"
LEASE_FILE: Final = "writer.json"

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told the stage, and how many of how many cases are done."""


@dataclass(frozen=True)
class Checked:
    """What the checks found."""

    rows: tuple[SummaryRow, ...]
    """The cohort at a glance, beside the paper's."""
    findings: tuple[Finding, ...]
    """Errors first."""
    path: str
    """A table of all of it."""


@dataclass(frozen=True)
class Request:
    """What is to be prepared."""

    src: str | Path
    """Folder of labelled scans."""
    out: str | Path
    """The store; patients are added to one that is there."""
    config: PrepareConfig
    """How ROIs are cut; of a store that is there, its own."""
    test_src: str | Path | None = None
    """A second folder, whose patients are all held out."""
    splits: Mapping[str, Split] | None = None
    """Splits of some or all patients; the others are drawn (see `assign_splits`)."""
    label_map: Mapping[int, int] | None = None
    """What the files' labels are among ours, where they are others."""
    series: str | None = None
    """Which DICOM series of a folder that holds several."""
    skip_bad: bool = False
    """Go on without the scans that have errors."""
    refit: bool = False
    """Take the mean anew over all training patients, and new atlases from those in `src`."""


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
    num_added: int = 0
    """Patients that this preparation wrote."""
    skipped: tuple[str, ...] = ()
    """Bad scans that were left out, with the reason."""


def local_pool(count: int) -> Workers:
    """Processes of this machine for `prepare`; the image library keeps to one thread in each."""
    return Workers(count, partial(use_threads, 1))


def prepare(
    request: Request,
    pool: JobPool,
    progress: Progress | None = None,
    on_checked: Callable[[Checked], None] | None = None,
) -> PrepareSummary:
    """Prepare a store, or add to one; the result does not depend on the pool.

    All scans are checked before the first is cut. Patients that the store holds already are left as they are.

    Args:
        request: what to prepare.
        pool: where the work of a patient is done; see `local_pool`.
        progress: told of each patient.
        on_checked: told what the checks found, before bad scans end the preparation.

    Raises:
        InputError: a folder or scan cannot be used (with `skip_bad`: none can); every finding is in
            a table in the store's folder.
        ConfigError: `splits` names an unknown case or moves one.
        StoreError: `out` holds a store of another configuration, or a scan of it has changed.
        BusyError: another process is writing the store.
    """
    scans, held_out = _find_all(request)
    with Lease(storage.join(request.out, LEASE_FILE)) as lease:
        return _Preparation(request, pool, progress or _silent, scans, held_out).run(lease, on_checked)


class _Preparation:
    """The steps, and what they hand to each other; per patient no more than names, stamps and splits."""

    def __init__(
        self,
        request: Request,
        pool: JobPool,
        notify: Progress,
        scans: Iterable[ScanCase],
        held_out: Sequence[str],
    ) -> None:
        self._request, self._pool, self._notify = request, pool, notify
        self._scans = {scan.case: scan for scan in scans}
        self._held_out = held_out
        self._base = _existing(request)
        self._journal = CheckJournal(str(request.out))
        self._unreadable: list[Finding] = []
        self._skipped: dict[str, str] = {}

    def run(self, lease: Lease, on_checked: Callable[[Checked], None] | None) -> PrepareSummary:
        """All steps."""
        self._inspect()
        checked = self._validate()
        if on_checked:
            on_checked(checked)
        self._drop_bad(checked.findings)
        new = {case for case in self._scans if not self._base or case not in self._base.index}
        if new or self._request.refit:
            self._write(new, [str(finding) for finding in checked.findings if finding.level == "warning"], lease)
        skipped = tuple(f"{case}: {reason}" for case, reason in sorted(self._skipped.items()))
        return replace(summarise(self._request.out), num_added=len(new), skipped=skipped)

    def _inspect(self) -> None:
        """Read and check every scan that the journal does not know as it is."""
        jobs = [InspectJob(scan, self._request.config) for scan in self._scans.values() if not self._is_known(scan)]
        done, total = len(self._scans) - len(jobs), len(self._scans)
        self._notify("check", done, total)
        try:
            for inspection in self._pool.map(inspect_case, jobs, inspection_died):
                if inspection.facts is None:  # never into the journal: what hindered the reading may pass
                    self._unreadable += inspection.findings
                else:
                    self._journal.add(inspection)
                done += 1
                self._notify("check", done, total)
        finally:
            self._journal.flush()

    def _is_known(self, scan: ScanCase) -> bool:
        return self._journal.stamp(scan.case) == scan_stamp(scan)

    def _validate(self) -> Checked:
        """Judge each scan by itself and all together, with the patients that the store holds; write the findings."""
        cases = {*self._scans, *(self._base.cases() if self._base else ())}
        findings = [*self._unreadable]
        for inspection in self._journal.inspections(cases):
            findings += inspection.findings
            self._refuse_changed(inspection)
        splits = self._assign()
        findings += check_cohort(self._facts(cases), splits, kept=set(self._base.cases()) if self._base else set())
        findings.sort(key=lambda finding: (finding.level, finding.case))
        write_validation(self._request.out, self._facts(cases), findings)
        return Checked(tuple(summarise_facts(self._facts(cases), splits)), tuple(findings), self._findings_path)

    def _facts(self, cases: Collection[str]) -> Iterator[CaseFacts]:
        return (inspection.facts for inspection in self._journal.inspections(cases) if inspection.facts)

    def _refuse_changed(self, inspection: Inspection) -> None:
        if self._base and inspection.case in self._base.index and inspection.case in self._scans:
            before, now = self._base.entry(inspection.case).origin, inspection.origin
            if (before.image_digest, before.label_digest) != (now.image_digest, now.label_digest):
                raise StoreError(
                    f"{self._request.out}: case '{inspection.case}' is of another scan or label than in "
                    f"{self._request.src}; give it another name, or prepare a new store"
                )

    def _drop_bad(self, findings: Sequence[Finding]) -> None:
        self._skipped = split_bad(findings)
        if not self._skipped:
            return
        first = next(finding for finding in findings if finding.level == "error")
        if not self._request.skip_bad:
            more = f" (and {len(self._skipped) - 1} more bad scans)" if len(self._skipped) > 1 else ""
            raise InputError(f"{first}{more}; see {self._findings_path}, or go on without them by --skip-bad")
        self._scans = {case: scan for case, scan in self._scans.items() if case not in self._skipped}
        if not self._scans:
            raise InputError(f"{self._request.src}: every scan is bad, the first: {first}")

    def _assign(self) -> dict[str, Split]:
        named = self._request.splits or {}
        return assign_splits(
            list(self._scans),
            config=self._request.config,
            test_cases=[case for case in self._held_out if case not in self._skipped],
            splits={case: split for case, split in named.items() if case not in self._skipped},
            kept=self._base.index.splits() if self._base else {},
            complete=self._base.manifest.about.complete_splits if self._base else (),
        )

    def _write(self, new: set[str], warnings: Sequence[str], lease: Lease) -> None:
        """Cut what is new and commit it."""
        assigned = self._assign()
        run = f"{fingerprint(self._request.config)}-{self._fit_atlases(assigned)}"
        writer = StoreWriter(self._request.out, self._request.config, base=self._base, run=run)
        adopted = writer.adopt(
            lambda entry: (
                entry.case in new
                and entry.split == assigned[entry.case]
                and entry.origin.stamp == self._journal.stamp(entry.case)
            )
        )
        done = len(adopted)
        self._notify("cut", done, len(new))
        for roi, origin in self._pool.map(cut_case, self._cut_jobs(new - adopted, assigned)):
            writer.add(roi, origin)
            done += 1
            self._notify("cut", done, len(new))
        lease.check()
        kept = self._base.manifest if self._base and not self._request.refit else None
        notes = [*(self._base.manifest.notes if self._base else ()), *warnings, *self._skip_notes()]
        writer.finish(kept.normalisation if kept else None, list(dict.fromkeys(notes)), self._provenance())

    def _cut_jobs(self, cases: Collection[str], assigned: Mapping[str, Split]) -> Iterator[CutJob]:
        for inspection in self._journal.inspections(cases):
            case = inspection.case
            yield CutJob(self._scans[case], assigned[case], inspection.origin, self._atlas_path, self._request.config)

    def _skip_notes(self) -> Iterator[str]:
        return (f"{case}: left out: {reason}" for case, reason in sorted(self._skipped.items()))

    @property
    def _findings_path(self) -> str:
        return storage.join(self._request.out, FACTS_FILE)

    @property
    def _atlas_path(self) -> str:
        return storage.join(self._request.out, ATLAS_FILE)

    def _fit_atlases(self, assigned: Mapping[str, Split]) -> str:
        """Atlases of training patients (see `choose_atlases`), phantoms where too few have a whole CT; their digest."""
        if self._base is None or self._request.refit:
            candidates = [
                inspection.candidate
                for inspection in self._journal.inspections(self._scans)
                if assigned[inspection.case] == "train" and inspection.candidate
            ]
            chosen = choose_atlases(candidates, self._request.config.num_atlases, self._request.config.seed)
            save_atlases(self._atlas_path, list(self._pool.map(atlas_of, self._atlas_jobs(chosen))))
        return hashlib.sha256(storage.read_bytes(self._atlas_path)).hexdigest()[:16]

    def _atlas_jobs(self, chosen: Sequence[str]) -> list[AtlasJob]:
        config, synthetic = self._request.config, self._provenance().synthetic
        jobs = [AtlasJob(config, synthetic, self._scans[case], 0) for case in chosen]
        return jobs + [AtlasJob(config, True, None, index) for index in range(config.num_atlases - len(jobs))]

    def _provenance(self) -> Provenance:
        before = self._base.manifest.about if self._base else Provenance()
        named = {*(self._request.splits or {}).values(), *(["test"] if self._request.test_src else [])}
        return Provenance(
            synthetic=before.synthetic or _is_synthetic(self._request.src, self._request.test_src),
            complete_splits=tuple(split for split in SPLITS if split in {*before.complete_splits, *named} - {"train"}),
        )


def summarise(path: str | Path) -> PrepareSummary:
    """The summary of a prepared store. Raises StoreError."""
    store = open_store(path)
    totals = {split: store.index.totals(split) for split in SPLITS if store.cases(split)}
    shares = {split: total / total.sum() for split, total in totals.items()}
    notes = Counter(note for entry in store.index.entries() for note in entry.notes)
    return PrepareSummary(
        path=str(path),
        num_cases={split: len(store.cases(split)) for split in SPLITS},
        class_shares={split: (float(b), float(k), float(t)) for split, (b, k, t) in shares.items()},
        num_grown=notes[GROWN],
        num_not_localised=notes[NOT_LOCALISED],
        notes=store.manifest.notes,
    )


def _existing(request: Request) -> Store | None:
    if not storage.exists(storage.join(request.out, MANIFEST)):
        return None
    store = open_store(request.out)
    if store.manifest.config != request.config:
        raise StoreError(f"{request.out}: holds a store of other settings; choose another folder, or its own settings")
    return store


def _find_all(request: Request) -> tuple[list[ScanCase], list[str]]:
    find = partial(find_cases, label_map=request.label_map, series=request.series)
    scans, held_out = find(request.src), find(request.test_src) if request.test_src else []
    twice = {scan.case for scan in scans} & {scan.case for scan in held_out}
    if twice:
        raise InputError(
            f"case '{min(twice)}' is in {request.src} and in {request.test_src}; remove or rename one of them"
        )
    return sorted([*scans, *held_out], key=lambda scan: scan.case), [scan.case for scan in held_out]


def _is_synthetic(*sources: str | Path | None) -> bool:
    """Whether any of the folders was written by the phantom painter."""
    return any((Path(source) / COHORT_FILE).is_file() for source in sources if source)


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""
