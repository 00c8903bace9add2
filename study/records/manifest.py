"""The manifest of a results folder: configuration, data, versions, seeds, durations and warnings of a study."""

import platform
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import renalnet
from renalnet.config import fingerprint
from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from renalnet.runtime import storage
from renalnet.types import SPLITS
from study.config.changes import changes, refused_changes
from study.config.sections import StudyConfig
from study.records.files import damaged, read_object
from study.records.results import Results

_TYPES: Final[Mapping[str, type]] = {"study": str, "config": dict, "durations_s": dict, "warnings": list}
"""Values that the manifest of every version has."""
# Names of distributions, not of imports: pydensecrf2 is imported as `pydensecrf`.
REPORTED_PACKAGES = ("torch", "ray", "optuna", "numpy", "pyarrow", "SimpleITK", "pydensecrf2")


class StudyManifest:
    """Writer of the manifest of a results folder. Every change is written immediately."""

    def __init__(self, results: Results, config: StudyConfig, data: str | None) -> None:
        """Start a study in an empty folder, or resume the study in the folder.

        Args:
            results: the results folder.
            config: the study's configuration.
            data: the store that the user named; None for the synthetic cohort.

        Raises:
            ResultsError: the folder holds another study, or files that belong to no study.
        """
        self._path = results.manifest_path
        before = known_study(results, config, data)
        self._values = _first_values(config, data) if before is None else _resumed(before, config)
        # A finished study that is started again, perhaps with more trials, is unfinished until its final stage has run.
        self.update(finished=False)

    def update(self, **values: Any) -> None:
        """Set values and write the manifest."""
        self._values |= values
        storage.write_json(self._path, self._values)

    def warn(self, warnings: Sequence[str]) -> None:
        """Add warnings about the results, each of them once."""
        # A dictionary, because a set would lose the order of the warnings.
        self.update(warnings=list(dict.fromkeys([*self._values["warnings"], *warnings])))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to that of the stage, also when the block raises."""
        started = time.monotonic()
        try:
            yield
        finally:
            durations = self._values["durations_s"]
            total = durations.get(stage, 0.0) + time.monotonic() - started
            # Durations of resumed runs add up, so that the report shows the time of the whole study.
            self.update(durations_s={**durations, stage: round(total, 1)})

    def describe_data(self, store: Store, source: str, synthetic: bool) -> None:
        """Record which store the study reads.

        Raises:
            ResultsError: the store is not the one that the study started with.
        """
        before = self._values.get("data", {}).get("fingerprint")
        if before not in (None, store.fingerprint):
            raise ResultsError(
                f"{store.path} has changed since this study began (fingerprint {before}, now {store.fingerprint}); "
                "choose another folder with --results"
            )
        notes = _grouped(store.manifest.notes, store.cases("test"))
        spacing = store.manifest.config.spacing_mm
        data = {
            "source": source,
            "synthetic": synthetic,
            "fingerprint": store.fingerprint,
            "num_cases": {split: len(store.cases(split)) for split in SPLITS},
            "roi_spacing_mm": list(spacing or ()),
            "notes": notes,
        }
        # Drops the warnings of an earlier driver: the final stage runs after every resume and adds its own again.
        self.update(data=data, warnings=notes)


def known_study(results: Results, config: StudyConfig, data: str | None) -> dict[str, Any] | None:
    """Return the manifest of the study that a command may resume; None for an empty folder. Nothing is written.

    Args:
        results: the results folder.
        config: the study's configuration.
        data: the store that the user named; None for the synthetic cohort.

    Raises:
        ResultsError: the folder holds another study, a damaged manifest, or files that belong to no study.
    """
    values = find_manifest(results)
    if values is not None:
        _refuse_changes(results, values, config, data)
    # The driver holds its lease, a hidden file, before it writes the manifest.
    elif [name for name in storage.list_names(results.folder) if not name.startswith(".")]:
        raise ResultsError(f"{results} is not empty and holds no study; choose an empty folder with --results")
    return values


def find_manifest(results: Results) -> dict[str, Any] | None:
    """Read the manifest with all of its values; None where there is none.

    Raises:
        ResultsError: it is damaged, or not that of a study.
    """
    try:
        values = read_object(results.manifest_path)
    except FileNotFoundError:
        return None
    wrong = [name for name, kind in _TYPES.items() if not isinstance(values.get(name), kind)]
    if wrong:
        raise damaged(results.manifest_path, f"not that of a study: {', '.join(wrong)} missing or of another type")
    return values


def _refuse_changes(results: Results, values: Mapping[str, Any], config: StudyConfig, data: str | None) -> None:
    """Raise ResultsError for changes of the configuration that a study may not make on resume."""
    refused = refused_changes(values["config"], config)
    # The path of the store is no part of the configuration, so it is compared by itself.
    if values.get("data_path") != data:
        refused.insert(0, f"data {values.get('data_path')} → {data}")
    if refused:
        # Another preset differs in many keys, and the message is one line.
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise ResultsError(
            f"{results} holds another study, in which {', '.join(refused[:3])}{more} cannot change; choose another "
            f"folder with --results, or repeat that study's command: {values.get('command', 'unknown')}"
        )


def _resumed(values: dict[str, Any], config: StudyConfig) -> dict[str, Any]:
    """Return the values of a manifest with the changes of the configuration that are made on resume."""
    changed = changes(values["config"], config.model_dump(mode="json"))
    if not changed:
        return values
    entry = {"when": _now(), "changed": changed}
    return {**values, "changes": [*values.get("changes", []), entry], **_config_values(config)}


def _first_values(config: StudyConfig, data: str | None) -> dict[str, Any]:
    return {
        "study": config.preset,
        "created": _now(),
        "command": f"python -m study.run {shlex.join(sys.argv[1:])}".strip(),
        **_config_values(config),
        "data_path": data,
        "versions": versions(REPORTED_PACKAGES),
        "machine": {},
        "seeds": {"study": config.seed, "phantom": config.phantom.seed, "prepare": config.prepare.seed},
        "durations_s": {},
        "warnings": [],
    }


def _config_values(config: StudyConfig) -> dict[str, Any]:
    return {"config": config.model_dump(mode="json"), "config_fingerprint": fingerprint(config)}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _grouped(notes: Sequence[str], test_cases: Sequence[str]) -> list[str]:
    """Return notes of the form `case: message` as one line for each message, with its cases. Test cases are marked."""
    cases: dict[str, list[str]] = {}
    for note in notes:
        case, colon, message = note.partition(": ")
        cases.setdefault(message if colon else note, []).extend([_marked(case, test_cases)] if colon else [])
    return [f"{message}: {', '.join(named)}" if named else message for message, named in cases.items()]


def _marked(case: str, test_cases: Sequence[str]) -> str:
    return f"{case} (test)" if case in test_cases else case


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of this project, of Python and of packages; `not installed` where one is missing."""
    found = {"renalnet": renalnet.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
