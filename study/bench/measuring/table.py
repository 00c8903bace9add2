"""Reports of benchmarks: rows of our measurement beside a peer's, with the versions and the machine."""

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table

from renalnet.runtime.machine import memory_bytes
from study.records.manifest import versions

FIGURE: Final = "figure.png"
"""Name of the figure of a benchmark that has one."""
TABLE: Final = "table.csv"
"""Name of the table of a benchmark that has more to say than its rows."""
PACKAGES: Final = ("torch", "numpy", "pyarrow", "monai", "torchio")


@dataclass(frozen=True)
class Row:
    """One measurement."""

    bench: str
    """Name of the benchmark."""
    what: str
    """Measured quantity."""
    unit: str
    ours: float | None
    """Our value."""
    peer: str = ""
    """Name of the peer; empty without a peer."""
    theirs: float | None = None
    """Value of the peer; None where it is not installed or there is no peer."""
    better: Literal["more", "less"] = "more"
    """Whether a larger or a smaller value is better."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ratio by which ours is better; None without a value of a peer."""
        if not self.ours or not self.theirs:
            return None
        return self.ours / self.theirs if self.better == "more" else self.theirs / self.ours


def print_table(rows: Iterable[Row], console: Console) -> None:
    """Print one line per row."""
    table = Table("bench", "what", "unit", "ours", "peer", "theirs", "times better", "note")
    for row in rows:
        numbers = [_number(value) for value in (row.ours, row.theirs, row.ratio)]
        table.add_row(row.bench, row.what, row.unit, numbers[0], row.peer, numbers[1], numbers[2], row.note)
    console.print(table)


def as_json(rows: Sequence[Row], options: dict[str, Any]) -> dict[str, Any]:
    """Return the rows with the time, commit, versions, machine and options that they depend on."""
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": _commit(),
        "versions": versions(PACKAGES),
        "machine": _machine(),
        "options": options,
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "num_cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_bytes() / 2**30, 1),
        # The load tells a reader whether other programs disturbed the measurement.
        "load": os.getloadavg()[0],
    }


def _commit() -> str:
    """Return the commit of the source, marked where files differ from it; `unknown` outside a checkout."""
    # No tag passes `--exclude=*`, so the answer is always a hash.
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
