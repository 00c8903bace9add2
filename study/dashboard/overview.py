"""What a study says of itself while it runs: its progress, and where the other views of it are."""

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
from study.records import paths

RAY_PORT: Final = 8265


@dataclass(frozen=True)
class Overview:
    """The first page before it is drawn."""

    results: str
    study: str
    """Name of its preset."""
    is_finished: bool
    progress: Progress
    line: str
    """The progress in words."""
    left: str
    """Time left of the search, in words."""
    ray_url: str
    """Of Ray's dashboard; empty where none is known."""
    tensorboard_command: str
    report_command: str


class StudyWindow:
    """Looks at the study of a results folder, as often as asked."""

    def __init__(self, results: str) -> None:
        """Look at nothing yet. Raises ResultsError where no study is there."""
        self._results = results
        self._manifest: dict[str, Any] = {}  # no study's: `read_manifest` refuses it
        self._turn()

    def look(self) -> Overview:
        """The study now."""
        self._turn()
        progress = self._follower.look()
        tune_folder = storage.join(self._results, "tune")
        return Overview(
            results=self._results,
            study=self._manifest["study"],
            is_finished=self._manifest.get("finished", False),
            progress=progress,
            line=progress_line(progress),
            left=left_words(progress),
            ray_url=ray_dashboard(self._manifest, os.environ),
            tensorboard_command=shlex.join(["tensorboard", "--logdir", tune_folder]),
            report_command=shlex.join(["python", "-m", "study.report", self._results]),
        )

    def _turn(self) -> None:
        """Begin anew where the manifest has changed: a study that goes on may have new plans for ended trials."""
        manifest = read_manifest(self._results)
        if manifest != self._manifest:
            config = parse(StudyConfig, manifest["config"], self._results)
            self._follower = StudyFollower(config, self._results, slots_of(manifest, config))
        self._manifest = manifest


def read_manifest(results: str) -> dict[str, Any]:
    """The study's manifest. Raises ResultsError where there is none, or one that no study wrote."""
    path = storage.join(results, paths.MANIFEST)
    if not storage.exists(path):
        raise ResultsError(f"{results} holds no study (no {paths.MANIFEST}); name the folder that study.run wrote")
    manifest = storage.read_json(path)
    wanted: dict[str, type] = {"study": str, "config": dict, "machine": dict}
    known = manifest if isinstance(manifest, dict) else {}
    wrong = [key for key, kind in wanted.items() if not isinstance(known.get(key), kind)]
    if wrong:
        raise ResultsError(f"{path} is no study's: {', '.join(wrong)} missing or damaged; name the folder of study.run")
    return known


def left_words(progress: Progress) -> str:
    """Time left of the search, `1 h 20 min`; a dash where nothing was measured yet."""
    return "–" if progress.left_s is None else duration_words(progress.left_s)


def slots_of(manifest: Mapping[str, Any], config: StudyConfig) -> Slots:
    """What a trial of the study occupies on the cluster that last ran it, as far as the manifest tells."""
    machine, resources = manifest["machine"], config.resources
    gpus = resources.gpus_per_trial if machine.get("num_gpus") else 0.0
    fitting = machine["num_gpus"] / gpus if gpus else machine.get("num_cpus", 1) / resources.cpus_per_trial
    return Slots(resources.cpus_per_trial, gpus, max(int(machine.get("num_slots", fitting)), 1))


def ray_dashboard(manifest: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """The address of Ray's dashboard: as the study's driver noted it, else on the head of RAY_ADDRESS."""
    noted = str(manifest.get("ray_dashboard") or "")
    address = environ.get("RAY_ADDRESS", "")
    if noted or address.startswith("http"):
        return noted or address
    host = urlsplit(address if "://" in address else f"//{address}").hostname
    return f"http://{host}:{RAY_PORT}" if host and host != "auto" else ""
