"""Benchmark of streaming with a shuffle window: its rate, and its memory, which should not grow with the store."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from study.bench.data.library_loaders import Job
from study.bench.data.loader_processes import measure
from study.bench.measuring.size import Size
from study.bench.measuring.synthetic_rois import RoiPainter, write_rois
from study.bench.measuring.table import Row

_ROI: Final = (24, 32, 32)
_CROP: Final = (8, 16, 16)
_BATCH_SIZE: Final = 4
_WINDOW: Final = 4
_LEAST_VISITS: Final = 500
"""Number of visits after which the memory is stable, because freed memory is not returned at once."""


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the rate on ROIs of full size, then peak memory and time per visit in stores of small ROIs."""
    write_rois(folder / "full", RoiPainter(size.roi), size.patients)
    window = max(size.patients // 3, 1)
    job = Job("renalnet", str(folder / "full"), size.crop, size.batch_size, size.batches, window=window, workers=1)
    rate = measure(replace(job, warm_up=size.batches // 5))["patches_per_s"]
    yield Row("stream", f"window of {window} of {size.patients} patients", "patches/s", rate)
    for num_cases in size.growing_patients:
        yield from _visit_all(folder / str(num_cases), num_cases)


def _visit_all(folder: Path, num_cases: int) -> Iterator[Row]:
    """Measure a store in which each case stays for one batch; small stores are passed through several times."""
    write_rois(folder, RoiPainter(_ROI), num_cases, shard_mb=1)
    num_visits = max(num_cases, _LEAST_VISITS)
    found = measure(Job("renalnet", str(folder), _CROP, _BATCH_SIZE, num_visits, window=_WINDOW, visit=_BATCH_SIZE))
    note = f"{num_visits} visits to small ROIs, window of {_WINDOW}"
    milliseconds = 1000 * (found["total_s"] - found["first_s"]) / num_visits
    yield Row("stream", f"{num_cases} patients, peak", "MB", found["peak_mb"], better="less", note=note)
    yield Row("stream", f"{num_cases} patients, time of a visit", "ms", milliseconds, better="less", note=note)
