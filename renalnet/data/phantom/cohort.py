"""Painted cohorts on disk, in the folder layout of KiTS; an interrupted run continues where it stopped."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from numpy.typing import NDArray

from renalnet.config import LabelSet, PhantomConfig, fingerprint
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.images.volume import read_volume, write_volume
from renalnet.data.phantom.painter import CaseTruth, PaintedCase, TumorTruth, paint_abdomen, paint_labels
from renalnet.errors import InputError
from renalnet.runtime.storage import read_json, write_json
from renalnet.types import HuArray, LabelArray

Measure: TypeAlias = Callable[[HuArray, LabelArray, LabelSet], NDArray[Any]]
"""Function of a case's image (HU), label map and label set, at the top of a module so that workers can import it."""

SYNTHETIC: Final = "synthetic"
COHORT_FILE: Final = "cohort.json"
_TRUTH_FILE: Final = "truth.json"
_IMAGE_FILE: Final = "imaging.nii.gz"
_LABEL_FILE: Final = "segmentation.nii.gz"
_LABEL_ENDING: Final = ".nii.gz"


@dataclass(frozen=True)
class CohortCase:
    """One case of a painted cohort."""

    name: str
    truth: CaseTruth
    measured: NDArray[Any] | None
    """Result of `measure`; None where no such function was given."""
    painted: bool
    """Whether this run painted the case, not an earlier one."""


@dataclass(frozen=True)
class CohortSummary:
    """Summary of a finished cohort."""

    path: Path
    source: str
    """Either `synthetic` or the name of the folder of label maps."""
    cases: tuple[CohortCase, ...]

    @property
    def measures(self) -> list[NDArray[Any]]:
        """Results of `measure`, in the order of the cases."""
        return [case.measured for case in self.cases if case.measured is not None]


@dataclass(frozen=True)
class _Job:
    name: str
    index: int
    label_file: Path | None


def write_cohort(
    out: Path,
    config: PhantomConfig,
    labels_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    measure: Measure | None = None,
) -> CohortSummary:
    """Paint a cohort into `out`: one folder per case with image, label map and truth, and `cohort.json` for all cases.

    An interrupted run continues with the cases that it had not finished. The files do not depend on `workers`.

    Args:
        out: new or empty folder, or one that an earlier run with the same arguments began.
        config: settings of the cohort; `num_cases` applies where no label maps are given.
        labels_dir: folder of `*.nii.gz` label maps to paint around; each gives one case, named after its file.
        progress: called with (number of finished cases, number of all cases) after each case.
        workers: number of processes that paint at the same time.
        measure: called with each case. Only its results are kept in memory, in the summary.

    Raises:
        InputError: `out` contains something else, `labels_dir` is missing or empty, or a label map cannot be used.
        ConfigError: the configuration cannot be painted.
    """
    # A relative folder such as `.` has no name.
    source = labels_dir.absolute().name if labels_dir else SYNTHETIC
    jobs = _label_jobs(labels_dir) if labels_dir else _synthetic_jobs(config)
    header = {"fingerprint": fingerprint(config), "source": source, "config": config.model_dump(mode="json")}
    _claim(out, header)
    paint = partial(_paint_case, out=out, config=config, measure=measure)
    cases = []
    for case in _each(paint, jobs, workers):
        cases.append(case)
        if progress:
            progress(len(cases), len(jobs))
    rows = [{"case": case.name, **_truth_to_json(case.truth)} for case in cases]
    write_json(out / COHORT_FILE, {**header, "finished": True, "cases": rows})
    return CohortSummary(out, source, tuple(cases))


def _synthetic_jobs(config: PhantomConfig) -> list[_Job]:
    return [_Job(f"case_{index:05d}", index, None) for index in range(config.num_cases)]


def _label_jobs(labels_dir: Path) -> list[_Job]:
    if not labels_dir.is_dir():
        raise InputError(f"labels folder {labels_dir}: no such folder; choose one with *{_LABEL_ENDING} label maps")
    files = sorted(labels_dir.glob(f"*{_LABEL_ENDING}"))
    if not files:
        raise InputError(f"labels folder {labels_dir}: holds no *{_LABEL_ENDING} label map; choose one that does")
    return [_Job(file.name.removesuffix(_LABEL_ENDING), index, file) for index, file in enumerate(files)]


def _claim(out: Path, header: dict[str, Any]) -> None:
    """Mark a new folder as this cohort's before the first case is painted; raise InputError for any other folder."""
    stamp = out / COHORT_FILE
    if not stamp.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: holds files but no {COHORT_FILE}; a cohort needs a new or empty folder")
        write_json(stamp, {**header, "finished": False})
        return
    known = read_json(stamp)
    for key in ("fingerprint", "source"):
        if known.get(key) != header[key]:
            raise InputError(
                f"{out}: holds another cohort ({key} {known.get(key)}, not {header[key]}); use a new folder"
            )


def _each(paint: Callable[[_Job], CohortCase], jobs: list[_Job], workers: int) -> Iterator[CohortCase]:
    """Yield the cases in order; where one fails, those that have not begun are not painted."""
    if workers <= 1:
        yield from map(paint, jobs)
        return
    context = multiprocessing.get_context("spawn")  # a forked process would inherit locks of running threads
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        yield from pool.map(paint, jobs)


def _paint_case(job: _Job, out: Path, config: PhantomConfig, measure: Measure | None) -> CohortCase:
    folder = out / job.name
    files = [folder / name for name in (_IMAGE_FILE, _LABEL_FILE, _TRUTH_FILE)]
    if all(file.is_file() for file in files):
        truth = _truth_from_json(read_json(files[2]))
        measured = measure(read_volume(files[0]).array, read_volume(files[1]).array, config.labels) if measure else None
        return CohortCase(job.name, truth, measured, painted=False)
    painted = _paint(job, config)
    write_volume(files[0], painted.image)
    write_volume(files[1], painted.label)
    # Written last: its presence tells the next run that the other two files are complete.
    write_json(files[2], _truth_to_json(painted.truth))
    measured = measure(painted.image.array, painted.label.array, config.labels) if measure else None
    return CohortCase(job.name, painted.truth, measured, painted=True)


def _paint(job: _Job, config: PhantomConfig) -> PaintedCase:
    if job.label_file is None:
        return paint_abdomen(config, job.index)
    labels = read_source_mask(job.label_file, config.labels)
    try:
        return paint_labels(labels, config, job.index)
    except InputError as error:
        raise InputError(f"{job.label_file}: {error}") from error


def _truth_to_json(truth: CaseTruth) -> dict[str, Any]:
    # Without the key where there is no other label, as in files of earlier versions.
    return {name: value for name, value in asdict(truth).items() if name != "other_ml" or value}


def _truth_from_json(values: dict[str, Any]) -> CaseTruth:
    return CaseTruth(**{**values, "tumors": tuple(TumorTruth(**tumor) for tumor in values["tumors"])})
