"""The command of a study, as a person starts it, and the tables that it writes."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from renalnet.data.store.reader import Store
from support.commands import ROOT, run

__all__ = ["ONE_AT_A_TIME", "PAUSING", "ROOT", "command", "copy_study", "outcome", "rows", "run"]
PAUSING = {"scheduler": "pausing", "reduction_factor": 2}
"""The pruner that keeps most in mind, for studies that are compared after faults."""
ONE_AT_A_TIME = (
    *("--set", "resources.max_concurrent=1"),
    *(word for key, value in PAUSING.items() for word in ("--set", f"search.{key}={value}")),
)
"""Options with which a study is reproducible."""
EXACT = ("name", "state", "objective", "best_epoch", "epochs", "config", "reason")
"""Columns of a trial that a study of one trial at a time gives again."""


def command(store: Store, config: Path, results: Path, *more: str) -> list[str]:
    """Return the command of a tiny study on a store."""
    options = ["--preset", "quick", "--config", str(config), "--data", store.path, "--results", str(results), *more]
    return [sys.executable, "-m", "study.run", *options]


def rows(path: Path) -> list[dict[str, object]]:
    """Read the rows of a Parquet file."""
    found: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return found


def copy_study(results: Path, target: Path) -> Path:
    """Copy a results folder, without the lease of a command that may be looking at it."""
    return Path(shutil.copytree(results, target, ignore=shutil.ignore_patterns(".lease*")))


def outcome(results: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the trials without their durations, and the winner with its measures."""
    trials = [{name: row[name] for name in EXACT} for row in rows(results / "trials.parquet")]
    metrics = pq.read_table(results / "final" / "metrics.parquet").to_pylist()
    best = json.loads((results / "best" / "config.json").read_text())
    return sorted(trials, key=lambda row: row["name"]), {"metrics": metrics, "sha256": best["sha256"]}
