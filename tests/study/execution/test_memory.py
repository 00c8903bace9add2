"""Tasks that Ray's memory monitor ends are repeated a few times only, and the error names the job and its memory."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from support import commands

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.errors import InputError, LostError
from study.config.sections import Slots, StudyConfig
from study.execution.connection import connected
from study.execution.own_ray import MEMORY_LOSSES
from study.execution.tasks import FinalWork, RayPool, measure_on_slot
from study.final.case_jobs import FinalCase
from study.finalists.finalists import Finalist
from study.progress.trial_cost import MeasureJob
from study.records.results import Results

FULL = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
"""Variables with which the memory of the machine is full for Ray, whatever runs on it."""
REASON = (
    rf"its process was ended {MEMORY_LOSSES + 1} times, because its node ran out of memory \(\d+\.\d+ of \d+\.\d+ GB "
    r"in use, \d+\.\d+ GB by this task\); run fewer tasks at a time or use nodes with more memory, then repeat the "
    "command"
)


def wait_long(job: object, *_: object) -> object:
    """Return after a time by which Ray has ended this task, so that a test without its memory monitor fails soon."""
    import time

    time.sleep(100)
    return job


def keep(job: object, vote: object) -> tuple[object, object]:
    return job, vote


@pytest.fixture(scope="module")
def pool() -> Iterator[RayPool]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the tasks cannot import this file
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in FULL.items():
            patch.setenv(name, value)
        with connected():
            yield RayPool(Slots(1, 0.0, 1))


@pytest.mark.slow
def test_a_job_that_memory_ends_is_an_error_or_a_result_with_its_memory(pool: RayPool) -> None:
    with pytest.raises(InputError, match=f"^scan_1.nii.gz: {REASON}$"):
        list(pool.map(wait_long, ["scan_1.nii.gz"]))
    (told,) = pool.map(wait_long, ["scan_2.nii.gz"], died=lambda job, reason: f"{job}: {reason}")
    assert re.fullmatch(f"scan_2.nii.gz: {REASON}", str(told))


@pytest.mark.slow
def test_the_final_stage_and_the_dry_run_name_the_case_and_the_networks(
    pool: RayPool, monkeypatch: pytest.MonkeyPatch, tiny_study: StudyConfig
) -> None:
    monkeypatch.setattr("study.execution.tasks.cast_vote", wait_long)
    monkeypatch.setattr("study.progress.trial_cost.measure_study", wait_long)
    slots, candidate = Slots(1, 0.0, 1), Finalist("fcn_ppm", "trial_a", (), "digest")
    case = FinalCase(Results("results"), "store", "case_7", candidate, KIDNEY_TUMOR)
    with pytest.raises(LostError, match=rf"^case case_7 \(trial_a\): {REASON}$"):
        list(FinalWork(slots, lambda: None).vote([case], tiny_study.final.stitch, keep))
    with pytest.raises(LostError, match=f"^measuring fcn_ppm: {REASON}$"):
        measure_on_slot(MeasureJob(tiny_study, {"fcn_ppm": 2}, None, 1), slots)


@pytest.mark.slow
def test_prepare_and_predict_name_the_scan(tmp_path: Path) -> None:
    grid = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))
    scan = tmp_path / "scans" / "case_0" / "imaging.nii.gz"
    write_volume(scan, Volume(np.zeros(grid.shape, np.int16), grid))
    write_volume(scan.with_name("segmentation.nii.gz"), Volume(np.zeros(grid.shape, np.uint8), grid))
    environment = {name: value for name, value in (os.environ | FULL).items() if name != "RAY_ADDRESS"}
    prepare = [sys.executable, "-m", "study.prepare", str(tmp_path / "scans"), "--out", str(tmp_path / "store")]
    done = commands.run(prepare, env=environment)
    assert done.returncode == 2 and re.search(rf"{scan}: {REASON}", done.stderr), done.stderr
    predict = [sys.executable, "-m", "study.predict", str(scan), "--out", str(tmp_path / "masks")]
    done = commands.run(predict, env=environment)
    assert done.returncode != 0 and re.search(rf"{scan}: {REASON}", done.stderr), done.stderr
    assert not list(tmp_path.glob("masks/*.nii.gz"))
