"""Everything that is to be measured on a GPU, in one command: whether results are right, then times and memory.

It runs on a processor, too, in the same way.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from renalnet.runtime.device import pick_device
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row
from study.bench.networks import exactness, inference, network

BENCH: Final = "gpu"
MEMORY_MB: Final = 12_000
"""Most memory that a training step on the paper's batch may take: that of a GPU of the paper's time."""


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield checks of correctness, then the rows of 3D_FCN_PPM of the benchmarks `network` and `inference`."""
    device = pick_device()
    yield from exactness.rows(size, folder / "exactness", device)
    measured = list(network.main_rows(size, folder, device))
    # On a processor, the memory is that of the process, with other crops.
    yield from memory_rows(measured) if device.torch_device.type == "cuda" else ()
    stitched = folder / "inference"
    stitched.mkdir()
    for row in (*measured, *inference.rows(size, stitched)):
        yield replace(row, bench=BENCH)


def memory_rows(measured: Iterable[Row]) -> Iterator[Row]:
    """Yield the row that compares the peak memory of a training step with what it may be."""
    peaks = [row for row in measured if row.what == network.PEAK_MEMORY]
    for row in peaks[:1]:  # ours is the same in all of them
        what = f"{network.PEAK_MEMORY} of the paper's training step"
        yield Row(BENCH, what, row.unit, row.ours, "bound", MEMORY_MB, "less", row.note)
