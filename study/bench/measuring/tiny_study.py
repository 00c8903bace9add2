"""A study of a minute on small synthetic ROIs: its command, what it ends with, and how it bore a fault."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from renalnet.config import PrepareConfig, merge
from renalnet.data.images.volume import Grid
from renalnet.data.store.reader import Roi
from renalnet.data.store.writer import write_store
from renalnet.nets.bundle import model_digest
from renalnet.types import Split
from study.bench.measuring.synthetic_rois import RoiPainter
from study.config.presets import quick
from study.config.sections import StudyConfig
from study.records.results import Results

SETTINGS: Final[dict[str, Any]] = {
    "train": {
        "net": {"width": 4, "ppm_kernels": [1, 2]},
        "optim": {"base_rate": 0.05, "batch_size": 2},
        "patch": {"shape": [8, 16, 16]},
        "stitch": {"tile": [8, 20, 20], "stride": [4, 10, 10]},
        "epochs": 5,
        "steps_per_epoch": 4,
        "precision": "float32",
    },
    "space": {"kernel_sets": [[1, 2], [1], []], "first_step": [1, 3], "step_gap": [1, 2]},
    "search": {"num_trials": 4, "baselines": ["unet3d"], "baseline_trials": 1, "num_startup_trials": 2},
    "prepare": {"spacing_mm": [2.0, 2.0, 2.0]},
    "final": {"stitch": {"tile": [8, 20, 20], "stride": [4, 10, 10]}, "num_finalists": 2, "tuning_trials": 2},
    "resources": {"max_concurrent": 1},  # with which a study is reproducible
}
"""Values that make a study of the preset `quick` take seconds; the tests begin with them, too."""
_SHAPE: Final = (16, 20, 20)
_SPLITS: Final[tuple[Split, ...]] = ("train",) * 4 + ("validation",) * 2 + ("test",) * 2
_LOG_LINE: Final = re.compile(r"\d\d:\d\d:\d\d |\[\*\*\* LOG ERROR #")
"""Lines of the log of a study, and lines of Ray about a log file that it cannot write."""
TRACEBACK: Final = "Traceback (most recent call last)"


@dataclass(frozen=True)
class TinyStudy:
    """Store and configuration of a study that takes about a minute on two processor cores."""

    store: str
    """Path of the store."""
    config: str
    """Path of the YAML file."""

    def settings(self) -> StudyConfig:
        """Return the configuration of the whole study."""
        values = yaml.safe_load(Path(self.config).read_text(encoding="utf-8"))
        return merge(quick(), values, self.config)

    def start(self, results: Path) -> "subprocess.Popen[str]":
        """Start the study in a results folder, or resume it there. The output, of a few kilobytes, goes to pipes."""
        options = ["--preset", "quick", "--config", self.config, "--data", self.store, "--results", str(results)]
        command = [sys.executable, "-m", "study.run", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; -N after signal N."""
    stdout: str
    stderr: str

    @property
    def said(self) -> list[str]:
        """Lines on stderr besides the log."""
        return [line for line in self.stderr.splitlines() if not _LOG_LINE.match(line)]

    @property
    def has_traceback(self) -> bool:
        """Whether it printed a traceback."""
        return TRACEBACK in self.stdout + self.stderr


@dataclass(frozen=True)
class Verdict:
    """How a study bore one fault."""

    fault: str
    """What was done, in words."""
    why: str = ""
    """What went wrong; empty where nothing did."""
    is_refused: bool = False
    """Whether the study's command stops in one line, because there is no other copy of a file."""
    num_lost: int = 0
    """Number of finished trials that are gone or changed."""
    is_other_winner: bool = False
    has_traceback: bool = False
    is_silent: bool = False
    """Whether a file of finished work was changed and no line names it."""

    @property
    def result(self) -> Literal["survived", "named", "lost"]:
        """`survived`: the study ends as without the fault; `named`: it stops and says why; `lost`: anything else."""
        if self.why:
            return "lost"
        return "named" if self.is_refused else "survived"

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.fault}: {self.result}{f' ({self.why})' if self.why else ''}"


def write_tiny_study(folder: Path) -> TinyStudy:
    """Write store and configuration into a folder."""
    write_store(folder / "store", _rois(), PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut"))
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return TinyStudy(str(folder / "store"), str(config))


def _rois() -> Iterator[Roi]:
    grid = Grid.axis_aligned(_SHAPE, (2.0, 2.0, 2.0))
    painter = RoiPainter(_SHAPE)
    for number, split in enumerate(_SPLITS):
        image, label = painter.paint(number)
        yield Roi(f"case_{number:05d}", split, image, label, grid, grid)


def wait(process: "subprocess.Popen[str]", timeout_s: float) -> Ended:
    """Wait for the end of a command. Raises subprocess.TimeoutExpired."""
    stdout, stderr = process.communicate(timeout=timeout_s)
    return Ended(process.returncode, stdout, stderr)


def outcome(results: Results) -> dict[str, Any]:
    """Return what a study of one trial at a time gives again: its trials, its winner and all measurements.

    Raises:
        ResultsError: a table is damaged.
        CheckpointError: the winner's bundle is damaged.
    """
    trials = sorted(results.trials() or [], key=lambda row: row.name)
    exact = [(row.name, row.state, row.objective, row.best_epoch, row.epochs, row.config, row.reason) for row in trials]
    return {
        "trials": exact,
        "winner": json.loads(Path(results.manifest_path).read_text(encoding="utf-8")).get("winner"),
        "weights": model_digest(results.best_folder),
        "measurements": results.measurements(),
    }
