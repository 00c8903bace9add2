"""The stages of the evidence: painted scans, their store, the study, then tables and figures."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from renalnet.config import fingerprint
from renalnet.data.phantom.label_maps import MAP_SPLITS
from renalnet.data.store.reader import Store, open_store
from renalnet.runtime.durations import duration_words
from renalnet.runtime.lease import Lease
from renalnet.runtime.log import get_logger
from renalnet.runtime.progress_bars import stage_progress
from renalnet.types import Split
from study.config.sections import StudyConfig
from study.evidence.analysis import evidence_of
from study.evidence.cohort import link_maps, paint, painting_seconds, prepare_store
from study.evidence.plan import Work, collection_of, painter
from study.evidence.work_log import WorkLog
from study.evidence.writing import write_evidence
from study.execution.cohort import check_store
from study.execution.driver import forecast_study, run_study, storage_may_fail
from study.report import Report, write_report
from study.report.analysis.contents import Programs

_log = get_logger(__name__)
Maps: TypeAlias = Mapping[Split, Mapping[str, Path]]
_COPIED: Final = ("created", "versions", "machine", "seeds", "warnings")
"""Values of the study's manifest that the manifest of the evidence repeats."""


def forecast_lines(config: StudyConfig, work: Work, maps: Maps) -> Iterator[str]:
    """Yield what the stages that are left will take, measured on this machine, one line each. Nothing is written."""
    if work.stages(config)["prepare"]:
        yield from forecast_study(config, work.store)
        return
    seconds = painting_seconds(config, maps)
    yield f"painting    about {duration_words(seconds)} if nothing else runs here, then the preparation"
    yield from forecast_study(_as_if_painted(config, maps), None)


def _as_if_painted(config: StudyConfig, maps: Maps) -> StudyConfig:
    """Return the configuration of an embedded cohort with as many cases of each split, on which costs are measured."""
    num_cases = sum(map(len, maps.values()))
    phantom = config.phantom.model_copy(update={"num_cases": num_cases})
    preparation = config.prepare.model_copy(update={"test_share": len(maps["test"]) / num_cases})
    return config.model_copy(update={"phantom": phantom, "prepare": preparation})


def run_stages(config: StudyConfig, work: Work, maps: Maps, programs: Sequence[tuple[str, Path]], out: Path) -> Report:
    """Run the stages that are not done, and write the tables and figures; return the report of the study.

    Args:
        config: the whole study.
        work: folder of scans, store and study.
        maps: label maps by split and case.
        programs: name and folder of masks of each other program.
        out: folder of the tables and figures.

    Raises:
        ConfigError: the store was prepared for other labels or another preset.
        InputError: a label map cannot be used, masks of a program cannot be compared, or the folder was begun with
            other maps or another painter.
        ResultsError: the folder holds another study.
    """
    log = WorkLog(work.log_path)
    stages = work.stages(config)
    with Lease(str(work.folder / ".lease")):
        link_maps(maps, work)
        if not stages["paint"]:
            with log.timed("paint"), stage_progress() as show:
                paint(config, work, lambda split, done, total: show(f"paint {split}", done, total))
        if not stages["prepare"]:
            _log.info("preparing the store")
            with log.timed("prepare"):
                prepare_store(config, work)
        if not stages["study"]:
            with log.timed("study"):
                _run_study(config, work)
        with log.timed("tables"):
            report = write_report(work.results, programs=Programs(programs, work.store))
            store = open_store(work.store)
            found = evidence_of(report, store, _collections(maps))
        write_evidence(found, manifest_of(config, report, store, maps, log), out)
    return report


def _run_study(config: StudyConfig, work: Work) -> None:
    results = work.results
    check_store(open_store(work.store), config)
    with Lease(results.lease_path) as lease, storage_may_fail(results):
        run_study(config, results, work.store, lease.check)


def _collections(maps: Maps) -> dict[str, list[str]]:
    """Return the test cases by collection of label maps."""
    found: dict[str, list[str]] = {}
    for case, path in maps["test"].items():
        found.setdefault(collection_of(path), []).append(case)
    return found


def manifest_of(config: StudyConfig, report: Report, store: Store, maps: Maps, log: WorkLog) -> dict[str, Any]:
    """Return what the evidence was made from and what it took. It names no folder of this machine."""
    study = report.content.manifest.model_dump(mode="json")
    hours = report.summary.hours
    return {
        "preset": config.preset,
        **{name: study[name] for name in _COPIED},
        "winner": winner.name if (winner := report.summary.winner) else None,
        "config": config.model_dump(mode="json"),
        "config_fingerprint": fingerprint(config),
        "maps": {name: _counts(name, maps) for name in _collections(maps)},
        "maps_sha256": _digest(maps),
        "painter": {split: painter(config, split).model_dump(mode="json") for split in MAP_SPLITS},
        "store": {"fingerprint": store.fingerprint, "num_cases": report.content.manifest.data.num_cases},
        "programs": {one.name: {"missing_cases": one.missing} for one in report.added},
        "durations_s": log.durations_s,
        "durations_of_study_s": report.content.manifest.durations_s,
        "hours": {"GPU": hours.gpu} if hours.gpu else {"processor": hours.cpu},
        "peak_memory_mb": log.peak_memory_mb,
    }


def _counts(collection: str, maps: Maps) -> dict[str, int]:
    return {split: sum(collection_of(path) == collection for path in maps[split].values()) for split in MAP_SPLITS}


def _digest(maps: Maps) -> str:
    """Return a checksum of the names, splits and contents of all label maps."""
    digest = hashlib.sha256()
    for split in MAP_SPLITS:
        for case, path in sorted(maps[split].items()):
            digest.update(f"{split}/{case}".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
