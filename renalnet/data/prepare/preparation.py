"""Preparation of a store from a folder of scans: find, check, split, localise, cut and write; or of more cases for it.

The work on a single case is in `case_jobs`, as functions that run in any pool of processes or tasks. An interrupted
preparation continues where it stopped: a journal has the checked scans, complete shards have the cut ones.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Final, TypeAlias

from renalnet.config import fingerprint
from renalnet.config.labels import require_same_labels
from renalnet.data.cases.findings import Finding, errors_by_case
from renalnet.data.cases.layouts import FoundCases, ScanCase
from renalnet.data.cases.splits import assign_splits
from renalnet.data.checks.cohort_checks import check_cohort
from renalnet.data.checks.cohort_table import SummaryRow, summarise_facts
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.checks.facts_file import facts_from_bytes, facts_to_bytes
from renalnet.data.checks.validation_file import FACTS_FILE, write_validation
from renalnet.data.images.volume import use_threads
from renalnet.data.localise.atlas import Atlas, AtlasCandidate, atlases_to_bytes, choose_atlases, load_atlases
from renalnet.data.prepare.case_jobs import (
    PHANTOM_PREFIX,
    AtlasJob,
    CutJob,
    InspectJob,
    atlas_of,
    cut_case,
    inspect_case,
    inspection_died,
    scan_stamp,
)
from renalnet.data.prepare.check_journal import CheckJournal, Inspection
from renalnet.data.prepare.localiser_jobs import (
    CoarseJob,
    LocaliserJob,
    coarse_of,
    localiser_key,
    localiser_of,
    phantom_jobs,
    trained_before,
)
from renalnet.data.prepare.request import Request, find_all, is_synthetic, passed_over
from renalnet.data.prepare.splits_file import stratum_of, write_splits
from renalnet.data.prepare.summary import PrepareSummary, summarise
from renalnet.data.store.index import CaseEntry
from renalnet.data.store.manifest import FileEntry, Provenance
from renalnet.data.store.reader import MANIFEST, Store, open_store
from renalnet.data.store.writer import StoreWriter
from renalnet.errors import InputError, StoreError
from renalnet.runtime import storage
from renalnet.runtime.lease import Lease
from renalnet.runtime.workers import JobPool, Workers
from renalnet.types import SPLITS, Split

LEASE_FILE: Final = "writer.json"
"""File in the store's folder that keeps other writers away."""
MAX_LOCALISER_SCANS: Final = 120
"""Most scans that the localiser learns from; they are in memory together, with about 1 MB each."""
_TWO_KIDNEYS: Final = 2

Progress: TypeAlias = Callable[[str, int, int], None]
"""Function that is called with (`check` or `cut`, number of finished cases, number of all cases)."""


@dataclass(frozen=True)
class Checked:
    """Result of the checks."""

    rows: tuple[SummaryRow, ...]
    """Summary of the cohort beside the paper's."""
    findings: tuple[Finding, ...]
    """All findings, errors first."""
    path: str
    """Path of the table with the facts and findings of each case."""


OnChecked: TypeAlias = Callable[[Checked], None]
"""Function that is called with the result of the checks."""


def local_pool(count: int) -> Workers:
    """Return a pool of processes on this machine for `prepare`; the image library uses one thread in each."""
    return Workers(count, partial(use_threads, 1))


def prepare(
    request: Request,
    pool: JobPool,
    progress: Progress | None = None,
    on_checked: OnChecked | None = None,
) -> PrepareSummary:
    """Prepare a store, or add cases to an existing one; the result does not depend on the pool.

    All scans are checked before the first one is cut. Cases that the store already has stay as they are.

    Args:
        request: scans and settings of the preparation.
        pool: pool that does the work on single cases; see `local_pool`.
        progress: called after each case.
        on_checked: called after the checks, before bad scans stop the preparation.

    Raises:
        InputError: a folder or a scan cannot be used, or with `skip_bad` no scan can. A table in the store's folder
            lists every finding.
        ConfigError: `splits` names an unknown case, or another split for a case of the store.
        StoreError: the store in `out` has other settings, or one of its scans has changed.
        BusyError: another process is writing the store.
    """
    found, held_out = find_all(request)
    with Lease(storage.join(request.out, LEASE_FILE)) as lease:
        return _Preparation(request, pool, progress or _silent, found).run(lease, held_out, on_checked)


class _Preparation:
    """The stages of a preparation and their shared state, which has no more than name, stamp and split of each case."""

    def __init__(self, request: Request, pool: JobPool, notify: Progress, found: FoundCases) -> None:
        self._request = request
        self._pool = pool
        self._notify = notify
        self._found = found
        self._scans = {scan.case: scan for scan in found.cases}
        self._splits: Mapping[str, Split] = {}
        self._base = _existing(request)
        self._journal = CheckJournal(str(request.out))

    def run(self, lease: Lease, held_out: Collection[str], on_checked: OnChecked | None) -> PrepareSummary:
        """Run all stages; with nothing new to write, the store stays untouched."""
        unreadable = self._inspect()
        checked = self._judge(unreadable, held_out)
        if on_checked:
            on_checked(checked)
        bad = errors_by_case(checked.findings)
        if bad and not self._request.skip_bad:
            raise InputError(self._refusal(checked.findings, len(bad)))
        good = {case for case in self._scans if case not in bad}
        if not good:
            raise InputError(f"{self._request.src}: every scan is bad; correct them as {checked.path} says")
        new = good - set(self._stored)
        if new or self._request.refit:
            left_out = [f"{case}: left out: {reason}" for case, reason in bad.items() if case not in self._stored]
            # As judged: a copy in another split was an error, so no case may move now that bad ones are left out.
            assigned = {case: split for case, split in self._splits.items() if case in good or case in self._stored}
            self._write(new, assigned, [*_warnings(checked.findings), *left_out], lease)
        skipped = tuple(f"{case}: {reason}" for case, reason in sorted(bad.items()))
        return replace(summarise(self._request.out), num_added=len(new), skipped=skipped)

    @cached_property
    def _stored(self) -> Mapping[str, Split]:
        """The cases that the store has, and their splits."""
        return self._base.index.splits() if self._base else {}

    def _inspect(self) -> list[Finding]:
        """Read and check every scan that is new or has changed; return the findings of those that could not be read.

        Raises:
            StoreError: a scan of the store has other voxels now.
        """
        jobs = [InspectJob(scan, self._request.config) for scan in self._scans.values() if not self._is_known(scan)]
        total = len(self._scans)
        done = total - len(jobs)
        unreadable: list[Finding] = []
        self._notify("check", done, total)
        try:
            for inspection in self._pool.map(inspect_case, jobs, inspection_died):
                # Not kept in the journal, because the cause (an absent disk, no memory) may be gone at the next run.
                if inspection.facts is None:
                    unreadable += inspection.findings
                elif inspection.case in self._stored:
                    self._refuse_changed(inspection)
                else:
                    self._journal.add(inspection)
                done += 1
                self._notify("check", done, total)
        finally:
            # Also after an error or an interruption, so that the next run does not read these scans again.
            self._journal.flush()
        return unreadable

    def _is_known(self, scan: ScanCase) -> bool:
        # Stamps need no reading of voxels, which is most of the work.
        if self._base and scan.case in self._stored:
            return self._base.entry(scan.case).origin.stamp == scan_stamp(scan)
        return self._journal.stamp(scan.case) == scan_stamp(scan)

    def _refuse_changed(self, inspection: Inspection) -> None:
        assert self._base is not None
        before = self._base.entry(inspection.case).origin
        now = inspection.origin
        # A file that was copied or touched has another stamp, but the same voxels.
        if (before.image_digest, before.label_digest) != (now.image_digest, now.label_digest):
            raise StoreError(
                f"{self._request.out}: case '{inspection.case}' is of another scan or label than in "
                f"{self._request.src}; rename the case, or prepare a new store"
            )

    def _judge(self, unreadable: Sequence[Finding], held_out: Collection[str]) -> Checked:
        """Judge each scan by itself, then the sound ones together with the cases of the store; write all findings."""
        failed = {finding.case for finding in unreadable}
        readable = {case for case in self._scans if case not in failed and case not in self._stored}
        findings = [*self._found.problems, *passed_over(self._found), *unreadable]
        findings += (one for found in self._journal.inspections(readable) for one in found.findings)
        faulty = {finding.case for finding in findings if finding.level == "error"}
        # Faulty scans go first, so that the sound one of two copies is not reported as the duplicate.
        sound = readable - faulty
        self._splits = self._assign([*sound, *(case for case in self._scans if case in self._stored)], held_out)
        findings += check_cohort(self._facts(sound), self._splits, kept=set(self._stored))
        # `error` precedes `warning` in the alphabet.
        findings.sort(key=lambda finding: (finding.level, finding.case))
        write_validation(self._request.out, self._facts(readable), findings)
        where = storage.join(self._request.out, FACTS_FILE)
        return Checked(tuple(summarise_facts(self._facts(sound), self._splits)), tuple(findings), where)

    def _facts(self, new: Collection[str]) -> Iterator[CaseFacts]:
        """Yield the facts of the store's cases, then those of the given new ones; few are in memory at a time."""
        if self._base and self._base.manifest.facts:
            yield from facts_from_bytes(self._base.read_beside(self._base.manifest.facts))
        for inspection in self._journal.inspections(new):
            assert inspection.facts is not None  # the journal has only scans that could be read
            yield inspection.facts

    def _refusal(self, findings: Sequence[Finding], num_bad: int) -> str:
        first = next(finding for finding in findings if finding.level == "error")
        more = f" (and {num_bad - 1} more bad scans)" if num_bad > 1 else ""
        where = storage.join(self._request.out, FACTS_FILE)
        return f"{first}{more}; see {where}, or leave them out by --skip-bad"

    def _assign(self, cases: Collection[str], held_out: Collection[str]) -> dict[str, Split]:
        """Return the split of each case; a split that the user named stays complete even where its scan is bad."""
        # `assign_splits` refuses unknown names, so those of scans that are left out are removed below.
        bad = {*self._scans, *(finding.case for finding in self._found.problems)} - set(cases)
        named = self._request.splits or {}
        return assign_splits(
            cases,
            config=self._request.config,
            test_cases=[case for case in held_out if case in cases],
            splits={case: split for case, split in named.items() if case not in bad},
            kept=self._stored,
            complete=self._provenance().complete_splits,
            strata={facts.case: stratum_of(facts) for facts in self._facts(set(cases) - set(self._stored))},
        )

    def _write(self, new: set[str], assigned: Mapping[str, Split], notes: Sequence[str], lease: Lease) -> None:
        """Cut the new cases and commit them to the store."""
        manifest = self._base.manifest if self._base else None
        writer = StoreWriter(self._request.out, self._request.config, base=self._base)
        atlas, localiser = self._fit(writer, assigned)
        # ROIs depend on the settings and on what finds the kidneys, so these are in the name of the run.
        run = "-".join([fingerprint(self._request.config), atlas.sha256, *([localiser.sha256] if localiser else [])])
        adopted = writer.adopt(run, self._adoptable(new, assigned))
        done = len(adopted)
        self._notify("cut", done, len(new))
        jobs = self._cut_jobs(new - adopted, assigned, atlas, localiser)
        for roi, origin in self._pool.map(cut_case, jobs):
            writer.add(roi, origin)
            done += 1
            self._notify("cut", done, len(new))
        # Cutting takes long, and the lease may have been lost meanwhile.
        lease.check()
        facts = writer.write_beside("facts", facts_to_bytes(self._facts(new)))
        normalisation = manifest.normalisation if manifest and not self._request.refit else None
        all_notes = list(dict.fromkeys([*(manifest.notes if manifest else ()), *notes]))
        write_splits(self._request.out, self._facts(new), assigned)
        writer.finish(normalisation, all_notes, self._provenance(), atlas=atlas, localiser=localiser, facts=facts)
        # Only now, because an interrupted preparation still needs the journal.
        self._journal.remove()

    def _adoptable(self, new: Collection[str], assigned: Mapping[str, Split]) -> Callable[[CaseEntry], bool]:
        return lambda entry: (
            entry.case in new
            and entry.split == assigned[entry.case]
            and entry.origin.stamp == self._journal.stamp(entry.case)
        )

    def _cut_jobs(
        self, cases: Collection[str], assigned: Mapping[str, Split], atlas: FileEntry, localiser: FileEntry | None
    ) -> Iterator[CutJob]:
        atlases = storage.join(self._request.out, atlas.name)
        network = storage.join(self._request.out, localiser.name) if localiser else None
        config = self._request.config
        for found in self._journal.inspections(cases):
            yield CutJob(self._scans[found.case], assigned[found.case], found.origin, atlases, network, config)

    def _fit(self, writer: StoreWriter, assigned: Mapping[str, Split]) -> tuple[FileEntry, FileEntry | None]:
        """Return the store's atlases and the network of its localiser, or make them of training cases.

        A store of an older version stays without a network, so that all of its ROIs are cut in one way.
        """
        if self._base and self._base.manifest.atlas and not self._request.refit:
            return self._base.manifest.atlas, self._base.manifest.localiser
        candidates = list(self._candidates(assigned))
        # Written before the cases are cut, because the jobs read both files by their paths.
        atlas = writer.write_beside("atlas", self._make_atlases(candidates))
        return atlas, writer.write_beside("localiser", self._make_localiser(candidates))

    def _make_atlases(self, candidates: Sequence[AtlasCandidate]) -> bytes:
        """Return the file of atlases of training cases (see `choose_atlases`).

        Phantoms take the place of cases where too few have a whole CT.
        """
        config = self._request.config
        chosen = choose_atlases(candidates, config.num_atlases, config.seed)
        if self._base and self._base.atlas_path and len(chosen) < _num_cases(load_atlases(self._base.atlas_path)):
            raise InputError(
                f"{self._request.src}: --refit finds only {len(chosen)} scans here for atlases, fewer than the store's "
                "atlases were made of; choose the folder of all scans"
            )
        return atlases_to_bytes(list(self._pool.map(atlas_of, self._atlas_jobs(chosen))))

    def _make_localiser(self, candidates: Sequence[AtlasCandidate]) -> bytes:
        """Return the file of the localiser's network, trained on training cases with two labelled kidneys.

        With one labelled kidney, the other one may be absent or only not labelled, which would teach the network to
        overlook it.
        """
        config = self._request.config
        names = sorted(candidate.name for candidate in candidates if candidate.num_kidneys == _TWO_KIDNEYS)
        # Painted scans are those that have taught the packaged network, and `localiser_phantoms` adds more of them.
        own = [] if is_synthetic(self._request.src) else [self._scans[name] for name in names[:MAX_LOCALISER_SCANS]]
        key = localiser_key(config, [scan_stamp(scan) for scan in own])
        known = trained_before(str(self._request.out), key)
        if known is not None:
            return known
        jobs = [*map(CoarseJob, own), *phantom_jobs(config.localiser_phantoms)] if config.localiser_steps else []
        scans = tuple(self._pool.map(coarse_of, jobs))
        (content,) = self._pool.map(localiser_of, [LocaliserJob(scans, config, key)])
        return content

    def _candidates(self, assigned: Mapping[str, Split]) -> Iterator[AtlasCandidate]:
        """Yield the training cases of `src` with a whole CT; those that the store already has are read again."""
        stored = [InspectJob(scan, self._request.config) for scan in self._scans.values() if scan.case in self._stored]
        found = chain(self._pool.map(inspect_case, stored, inspection_died), self._journal.inspections(self._scans))
        for inspection in found:
            if inspection.candidate and assigned.get(inspection.case) == "train":
                yield inspection.candidate

    def _atlas_jobs(self, chosen: Sequence[str]) -> list[AtlasJob]:
        config = self._request.config
        synthetic = is_synthetic(self._request.src, self._request.test_src)
        jobs = [AtlasJob(config, synthetic, self._scans[case], 0) for case in chosen]
        return jobs + [AtlasJob(config, True, None, index) for index in range(config.num_atlases - len(jobs))]

    def _provenance(self) -> Provenance:
        before = self._base.manifest.about if self._base else Provenance()
        named = {*(self._request.splits or {}).values(), *(["test"] if self._request.test_src else [])}
        return Provenance(
            synthetic=before.synthetic or is_synthetic(self._request.src, self._request.test_src),
            complete_splits=tuple(split for split in SPLITS if split in {*before.complete_splits, *named} - {"train"}),
        )


def _warnings(findings: Iterable[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.level == "warning"]


def _num_cases(atlases: Iterable[Atlas]) -> int:
    return sum(not atlas.name.startswith(PHANTOM_PREFIX) for atlas in atlases)


def _existing(request: Request) -> Store | None:
    if not storage.exists(storage.join(request.out, MANIFEST)):
        return None
    store = open_store(request.out)
    require_same_labels(store.labels, request.config.labels, str(request.out), "the preparation", StoreError)
    # Sets of the same labels may differ in colors and codes, which do not change an ROI.
    if store.manifest.config.model_copy(update={"labels": request.config.labels}) != request.config:
        raise StoreError(f"{request.out}: holds a store of other settings; choose another folder, or its settings")
    return store


def _silent(stage: str, done: int, total: int) -> None:
    """Ignore the progress."""
