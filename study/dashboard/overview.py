"""Overview of a study while it runs: its progress and the addresses of the other live views."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from renalnet.config import parse
from renalnet.errors import ResultsError
from renalnet.runtime import storage
from renalnet.runtime.durations import duration_words
from study.config.sections import Slots, StudyConfig
from study.progress.progress import Progress, StudyFollower, progress_line
from study.records.results import MANIFEST, Results

RAY_PORT: Final = 8265
"""Port of Ray's dashboard unless the cluster sets another."""


@dataclass(frozen=True)
class Overview:
    """Content of the dashboard's first page."""

    results: str
    """Results folder."""
    study: str
    """Name of the preset."""
    is_finished: bool
    """Whether the final stage has ended."""
    progress: Progress
    """Progress of the search and the repeats."""
    line: str
    """The progress as one line of text."""
    left: str
    """Time left of the search, as text."""
    ray_url: str
    """Address of Ray's dashboard; empty where it is unknown."""
    tensorboard_command: str
    """Command that opens the curves in TensorBoard."""
    report_command: str
    """Command that writes the report."""
    has_report: bool = False
    """Whether the report was written, so that the dashboard shows it."""


class StudyWindow:
    """Reader of the overview of a study, for repeated use."""

    def __init__(self, results: Results) -> None:
        """Read the manifest. Raises ResultsError if the folder holds no study."""
        self._results = results
        self._manifest: dict[str, Any] = {}  # equal to no manifest, because `read_manifest` refuses it
        self._reload()

    def look(self) -> Overview:
        """Return the current overview."""
        self._reload()
        progress = self._follower.look()
        return Overview(
            results=self._results.folder,
            study=self._manifest["study"],
            is_finished=self._manifest.get("finished", False),
            progress=progress,
            line=progress_line(progress),
            left=left_text(progress),
            ray_url=ray_dashboard(self._manifest, os.environ),
            tensorboard_command=shlex.join(["tensorboard", "--logdir", self._results.tune_folder]),
            report_command=shlex.join(["python", "-m", "study.report", self._results.folder]),
            has_report=storage.exists(self._results.page_path),
        )

    def report(self) -> bytes | None:
        """Return the report as HTML; None where it was not written."""
        path = self._results.page_path
        return storage.read_bytes(path) if storage.exists(path) else None

    def _reload(self) -> None:
        """Start to follow again if the manifest has changed: a resumed study may have extended its ended trials."""
        manifest = read_manifest(self._results)
        if manifest != self._manifest:
            config = parse(StudyConfig, manifest["config"], self._results.folder)
            self._follower = StudyFollower(config, self._results, slots_of(manifest, config))
        self._manifest = manifest


def read_manifest(results: Results) -> dict[str, Any]:
    """Read the manifest with all of its keys.

    Raises:
        ResultsError: it is missing, or a key that every study writes is missing or has another type.
    """
    path = results.manifest_path
    if not storage.exists(path):
        raise ResultsError(f"{results} holds no study (no {MANIFEST}); name the folder that study.run wrote")
    manifest = storage.read_json(path)
    wanted: dict[str, type] = {"study": str, "config": dict, "machine": dict}
    # A JSON file may hold a list or a number as well.
    known = manifest if isinstance(manifest, dict) else {}
    wrong = [key for key, kind in wanted.items() if not isinstance(known.get(key), kind)]
    if wrong:
        raise ResultsError(f"{path} is no study's: {', '.join(wrong)} missing or damaged; name the folder of study.run")
    return known


def left_text(progress: Progress) -> str:
    """Return the time left of the search, such as `1 h 20 min`; a dash before an epoch has ended."""
    return "–" if progress.left_s is None else duration_words(progress.left_s)


def slots_of(manifest: Mapping[str, Any], config: StudyConfig) -> Slots:
    """Return the slots of the cluster that last ran the study.

    A manifest of an earlier version has no number of slots; it is computed from the processors or GPUs then.
    """
    machine = manifest["machine"]
    resources = config.resources
    gpus = resources.gpus if machine.get("num_gpus") else 0.0
    fitting = machine["num_gpus"] / gpus if gpus else machine.get("num_cpus", 1) / resources.cpus_per_trial
    # A study that is starting has not recorded its machine yet.
    num_slots = max(int(machine.get("num_slots", fitting)), 1)
    return Slots(resources.cpus_per_trial, gpus, num_slots, bool(machine.get("are_gpus_fake")))


def ray_dashboard(manifest: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the address of Ray's dashboard: the one in the manifest, else one on the head node of RAY_ADDRESS."""
    noted = str(manifest.get("ray_dashboard") or "")
    address = environ.get("RAY_ADDRESS", "")
    # An HTTP address takes jobs; Ray's dashboard serves it.
    if noted or address.startswith("http"):
        return noted or address
    # `urlsplit` finds a host only after `//`, and Ray's HOST:PORT has none.
    host = urlsplit(address if "://" in address else f"//{address}").hostname
    # `auto` lets Ray look for a cluster and names no host.
    return f"http://{host}:{RAY_PORT}" if host and host != "auto" else ""
