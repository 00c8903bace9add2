"""What benchmarks report: rows of ours beside a peer, with the versions and the machine that gave them."""

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

PACKAGES: Final = ("torch", "numpy", "pyarrow", "monai", "torchio")


@dataclass(frozen=True)
class Row:
    """A measurement."""

    bench: str
    what: str
    unit: str
    ours: float | None
    peer: str = ""
    """Who is compared with; empty where ours stands alone."""
    theirs: float | None = None
    """None where the peer is absent."""
    better: Literal["more", "less"] = "more"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; none without a peer."""
        if not self.ours or not self.theirs:
            return None
        return self.ours / self.theirs if self.better == "more" else self.theirs / self.ours


def print_table(rows: Iterable[Row], console: Console) -> None:
    """A line a row."""
    table = Table("bench", "what", "unit", "ours", "peer", "theirs", "times better", "note")
    for row in rows:
        numbers = [_number(value) for value in (row.ours, row.theirs, row.ratio)]
        table.add_row(row.bench, row.what, row.unit, numbers[0], row.peer, numbers[1], numbers[2], row.note)
    console.print(table)


def as_json(rows: Sequence[Row], options: dict[str, Any]) -> dict[str, Any]:
    """The rows and what they depend on."""
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
        "load": os.getloadavg()[0],
    }


def _commit() -> str:
    """The commit of the source, with a mark where files differ from it; unknown outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
