"""Preparation as Ray tasks: it writes the same store as local processes, and loses nothing with a task."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import ray
from support import commands
from support.planted import planted_files, planted_in, write_planted_series

from renalnet.config import KIDNEY_TUMOR, PrepareConfig
from renalnet.data.images.volume import Grid, Volume, read_volume, write_volume
from renalnet.data.prepare.preparation import local_pool, prepare
from renalnet.data.prepare.request import Request
from renalnet.data.store.reader import open_store
from renalnet.errors import InputError, LostError
from study.config.sections import Slots, StudyConfig
from study.execution import tasks
from study.execution.connection import connected
from study.execution.tasks import FinalWork, RayPool, measure_on_slot
from study.final.case_jobs import FinalCase
from study.finalists.finalists import Finalist
from study.progress.trial_cost import MeasureJob
from study.records.results import Results

ROOT = Path(__file__).parents[3]
CUT = PrepareConfig(spacing_mm=None, localise="cut", num_atlases=1)
GRID = Grid.axis_aligned((12, 40, 40), (2.0, 1.0, 1.0))


def double(job: int) -> int:
    return 2 * job


def fail_on_two(job: int) -> int:
    if job == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 3:
        raise InputError(f"{job} is refused")
    return job


def die(_: object, num_threads: int = 1) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def keep_both(patient: object, ballot: object) -> tuple[object, object]:
    return patient, ballot


def write_scans(folder: Path) -> Path:
    for index in range(4):
        image = np.random.default_rng(index).integers(-1000, 500, GRID.shape).astype(np.int16)
        label = np.zeros(GRID.shape, np.uint8)
        label[2:10, 5:35, 5 : 35 - index], label[4:6, 10:20, 10:20] = 1, 2
        image[label > 0] = 150
        write_volume(folder / f"case_{index}" / "imaging.nii.gz", Volume(image, GRID))
        write_volume(folder / f"case_{index}" / "segmentation.nii.gz", Volume(label, GRID))
    return folder


def write_planted_scans(folder: Path) -> None:
    """Write the same scans as DICOM series, with values in their headers that tell who the patients are."""
    for case in sorted(write_scans(folder).iterdir()):
        image = case / "imaging.nii.gz"
        volume = read_volume(image)
        image.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom names what is odd about the values
            write_planted_series(case / "series", volume.array, volume.grid)


@pytest.fixture(scope="module")
def pool() -> Iterator[RayPool]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the tasks cannot import this file
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with connected():
            yield RayPool(Slots(1, 0.0, 2))


@pytest.mark.slow
def test_results_come_in_order(pool: RayPool) -> None:
    assert list(pool.map(double, range(10))) == [2 * job for job in range(10)]


@pytest.mark.slow
def test_a_task_whose_process_dies_is_a_result_and_errors_travel(pool: RayPool) -> None:
    assert list(pool.map(fail_on_two, [1, 2], died=lambda job, reason: -job)) == [1, -2]
    with pytest.raises(InputError, match="2: the process that read it died"):
        list(pool.map(fail_on_two, [2]))
    with pytest.raises(InputError, match="3 is refused"):
        list(pool.map(fail_on_two, [3]))


def test_the_final_stage_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "study")
    assert list(tasks._logged(iter("ab"), "fcn_ppm-0003, segmented", 2)) == ["a", "b"]
    assert caplog.messages == []  # it took no time
    monkeypatch.setattr(tasks, "LOG_EVERY_S", -1.0)
    assert list(tasks._logged(iter("ab"), "fcn_ppm-0003, segmented", 2)) == ["a", "b"]
    assert caplog.messages == [f"final stage: fcn_ppm-0003, segmented: {done} of 2 cases" for done in (1, 2)]


@pytest.mark.slow
def test_lost_work_of_a_study_is_named_and_not_blamed_on_a_file(
    pool: RayPool, monkeypatch: pytest.MonkeyPatch, tiny_study: StudyConfig
) -> None:
    monkeypatch.setattr("study.execution.tasks.cast_vote", die)
    monkeypatch.setattr("study.progress.trial_cost.measure_study", die)
    slots, candidate = Slots(1, 0.0, 2), Finalist("fcn_ppm", "trial_a", (), "digest")
    with pytest.raises(LostError, match=r"^case case_7 \(trial_a\): lost with its process or node") as told:
        work = FinalWork(slots, lambda: None)
        case = FinalCase(Results("results"), "store", "case_7", candidate, KIDNEY_TUMOR)
        list(work.vote([case], tiny_study.final.stitch, keep_both))
    assert len(str(told.value)) < 200
    with pytest.raises(LostError, match=r"^measuring fcn_ppm, unet3d: lost with its process or node"):
        measure_on_slot(MeasureJob(tiny_study, {"fcn_ppm": 2, "unet3d": 2}, None, 1), slots)


@pytest.mark.slow
def test_tasks_and_processes_write_the_same_store(pool: RayPool, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans")
    prepare(Request(scans, tmp_path / "tasks", CUT), pool)
    with local_pool(1) as processes:
        prepare(Request(scans, tmp_path / "processes", CUT), processes)
    assert open_store(tmp_path / "tasks").manifest == open_store(tmp_path / "processes").manifest


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """On DICOM series, of whose patients no output tells anything."""
    scans = tmp_path / "scans"
    write_planted_scans(scans)
    words = [str(scans), "--out", str(tmp_path / "store"), "--set", "spacing_mm=null"]
    command = [sys.executable, "-m", "study.prepare", *words, "--set", "localise=cut", "--set", "num_atlases=1"]
    done = commands.run(command)
    assert done.returncode == 0, done.stderr
    assert "4 cases written, 4 in the store" in done.stdout
    assert planted_files(scans) and not planted_files(tmp_path / "store")
    assert not planted_in(done.stdout + done.stderr)


def test_relative_paths_inside_a_job_are_refused(tmp_path: Path) -> None:
    environment = os.environ | {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    command = [sys.executable, "-m", "study.prepare", "scans", "--out", str(tmp_path / "store")]
    done = commands.run(command, env=environment)
    assert done.returncode == 2 and "scans: inside a submitted job paths must be absolute" in done.stderr
