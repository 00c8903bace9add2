"""Growth of the time and memory of `prepare` with the number of cases; time should grow linearly, memory not at all."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.errors import ResultsError
from study.bench.measuring.processes import family_mb
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row

SMALL: tuple[int, int, int] = (24, 24, 24)
"""Voxels of an ROI, so few that thousands are painted in a minute; what a store keeps of a case has its usual size."""
_POLL_S = 0.1
_GRID = Grid.axis_aligned(SMALL, (5.0, 4.0, 4.0))
# Cases are neither resampled nor localised, which keeps thousands of them quick.
_SETTINGS = ("spacing_mm=null", "localise=cut", "shard_mb=4", "num_atlases=1")


def write_scans(folder: Path, first: int, stop: int) -> None:
    """Paint scans `first` to `stop` (exclusive) in the KiTS layout: muscle, fat, air, and a kidney with a tumor."""
    for number in range(first, stop):
        generator = np.random.default_rng(number)
        middle = generator.uniform(10, 14, 3)
        radii = generator.uniform(5, 8, 3)
        label = _ellipsoid(middle, radii).astype(np.uint8)
        label[_ellipsoid(middle + generator.uniform(-3, 3, 3), generator.uniform(2, 4, 3)) & (label > 0)] = (
            KIDNEY_TUMOR.tumor.value
        )
        fat, muscle, kidney, tumor = generator.uniform((-120, 30, 120, 30), (-60, 70, 260, 100))
        tissue = np.choose(label, [np.where(_ellipsoid(middle, 1.7 * radii), fat, muscle), kidney, tumor])
        image = (tissue + generator.normal(0, 14, SMALL)).astype(np.int16)
        # The checks of the preparation doubt an image without air and fat.
        image[:, :3] = generator.integers(-1000, -950, image[:, :3].shape)
        case = folder / f"case_{number:05d}"
        write_volume(case / "imaging.nii.gz", Volume(image, _GRID))
        write_volume(case / "segmentation.nii.gz", Volume(label, _GRID))


def _ellipsoid(middle: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    z, y, x = (((np.arange(size) - m) / r) ** 2 for size, m, r in zip(SMALL, middle, radii, strict=True))
    return np.asarray(z[:, None, None] + y[:, None] + x < 1)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the cost of preparing each number of cases, from scans below `folder`.

    Raises:
        ResultsError: a preparation failed.
    """
    painted = 0
    for count in sorted(size.growing_patients):
        write_scans(folder / "scans", painted, count)
        painted = count
        options = [word for setting in _SETTINGS for word in ("--set", setting)]
        # Among thousands of ellipsoids a few pairs look like copies of one scan; `--skip-bad` leaves those out.
        arguments = ["prepare", str(folder / "scans"), "--out", str(folder / f"store-{count}"), *options, "--skip-bad"]
        seconds, peak_mb = _watch([sys.executable, "-m", "renalnet", *arguments])
        # Reports of several versions are compared by the names of their rows, so the wording must not change.
        note = "small ROIs, all processes together"
        yield Row("prepare", f"{count} patients, peak", "MB", peak_mb, better="less", note=note)
        yield Row("prepare", f"{count} patients", "s", seconds, better="less", note="start-up included")


def _watch(command: Sequence[str]) -> tuple[float, float]:
    """Return the seconds and the peak memory of a command and its children."""
    started = time.monotonic()
    peak_mb = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak_mb = max(peak_mb, family_mb(process.pid))
            time.sleep(_POLL_S)
        assert process.stderr
        last_line = process.stderr.read().strip().splitlines()[-1:]
    if process.returncode:
        raise ResultsError(f"{' '.join(command)} failed: {' '.join(last_line)}; run it alone to see its output")
    return time.monotonic() - started, peak_mb
