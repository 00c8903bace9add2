"""Jobs on a Ray for which the memory of the machine is always full.

They run in a process of their own, because a process reads the variables of Ray once.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import ray

from renalnet.config import KIDNEY_TUMOR, PrepareConfig
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.data.prepare.preparation import prepare
from renalnet.data.prepare.request import Request
from renalnet.errors import RenalnetError
from renalnet.nets.packaged import packaged_bundle
from renalnet.prediction.scan_jobs import ModelUse, list_jobs, lost_scan, predict_scan
from study.config.sections import Slots, StudyConfig
from study.execution import tasks
from study.execution.connection import connected
from study.execution.tasks import FinalWork, RayPool, measure_on_slot
from study.final.case_jobs import FinalCase
from study.finalists.finalists import Finalist
from study.progress import trial_cost
from study.progress.trial_cost import MeasureJob
from study.records.results import Results
from support.commands import CONTEXT

REPEATS: Final = 1
"""Fewer than by default, because Ray waits before each one."""
_VARIABLES: Final = {"RAY_memory_usage_threshold": "0.01", "RAY_task_oom_retries": str(REPEATS)}


def messages(folder: Path, config: StudyConfig) -> dict[str, str]:
    """Return what is said of a task of each kind whose process is ended, by kind.

    Args:
        folder: an empty folder, which gets the scan `scans/case_0/imaging.nii.gz`.
        config: a study whose networks are measured.
    """
    with CONTEXT.Pool(1) as process:
        return process.apply(_messages, (folder, config))


def _messages(folder: Path, config: StudyConfig) -> dict[str, str]:
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(_VARIABLES)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the tasks cannot import this file
    tasks.cast_vote = _wait  # type: ignore[assignment]
    trial_cost.measure_study = _wait  # type: ignore[assignment]
    scan = _write_scan(folder / "scans" / "case_0")
    slots = Slots(1, 0.0, 1)
    case = FinalCase(Results("results"), "store", "case_7", Finalist("fcn_ppm", "trial_a", (), "digest"), KIDNEY_TUMOR)
    request = Request(folder / "scans", str(folder / "store"), PrepareConfig())
    jobs = list_jobs([scan], ModelUse(packaged_bundle()), str(folder / "masks"))
    with connected():
        pool = RayPool(slots)
        return {
            "job": _error(lambda: list(pool.map(_wait, ["scan_1.nii.gz"]))),
            "case": _error(lambda: list(FinalWork(slots, lambda: None).vote([case], config.final.stitch, _keep))),
            "network": _error(lambda: measure_on_slot(MeasureJob(config, {"fcn_ppm": 2}, None, 1), slots)),
            "scan to prepare": _error(lambda: prepare(request, pool)),
            "scan to segment": next(iter(pool.map(predict_scan, jobs, lost_scan))).failure,
        }


def _wait(job: object, *_: object) -> object:
    """Return after a time by which Ray has ended this task. Without its memory monitor, the test fails then."""
    time.sleep(100)
    return job


def _keep(job: object, vote: object) -> tuple[object, object]:
    return job, vote


def _error(call: Callable[[], object]) -> str:
    try:
        call()
    except RenalnetError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _write_scan(folder: Path) -> Path:
    grid = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))
    write_volume(folder / "imaging.nii.gz", Volume(np.zeros(grid.shape, np.int16), grid))
    write_volume(folder / "segmentation.nii.gz", Volume(np.zeros(grid.shape, np.uint8), grid))
    return folder / "imaging.nii.gz"
