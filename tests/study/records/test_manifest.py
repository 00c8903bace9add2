"""The manifest of a results folder: new, resumed and refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from renalnet.runtime import storage
from study.config.sections import StudyConfig
from study.records.manifest import StudyManifest
from study.records.results import Results


def test_the_same_study_is_resumed(tiny_study: StudyConfig, tmp_path: Path) -> None:
    with StudyManifest(Results(str(tmp_path)), tiny_study, None).timed("search"):
        pass
    StudyManifest(Results(str(tmp_path)), tiny_study, None)
    values = storage.read_json(tmp_path / "manifest.json")
    assert values["study"] == "quick" and "search" in values["durations_s"] and values["versions"]["torch"]


def test_other_configuration_is_refused(tiny_study: StudyConfig, tmp_path: Path) -> None:
    StudyManifest(Results(str(tmp_path)), tiny_study, None)
    with pytest.raises(
        ResultsError, match=r"another study, in which seed 0 → 1 cannot change; choose another folder with"
    ):
        StudyManifest(Results(str(tmp_path)), tiny_study.model_copy(update={"seed": 1}), None)


def test_other_data_is_refused(tiny_study: StudyConfig, tmp_path: Path) -> None:
    StudyManifest(Results(str(tmp_path)), tiny_study, "/one")
    with pytest.raises(ResultsError, match="holds another study"):
        StudyManifest(Results(str(tmp_path)), tiny_study, "/two")


def test_a_folder_with_other_files_is_refused(tiny_study: StudyConfig, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ResultsError, match="is not empty and holds no study"):
        StudyManifest(Results(str(tmp_path)), tiny_study, None)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_changed_store_is_refused(tiny_study: StudyConfig, ball_store: Store, tmp_path: Path) -> None:
    manifest = StudyManifest(Results(str(tmp_path)), tiny_study, "/one")
    manifest.describe_data(ball_store, "balls", synthetic=True)
    manifest.update(data={"fingerprint": "before"})
    with pytest.raises(ResultsError, match="has changed since this study began"):
        manifest.describe_data(ball_store, "balls", synthetic=True)


def test_warnings_are_grouped_by_their_message(tiny_study: StudyConfig, ball_store: Store, tmp_path: Path) -> None:
    notes = ("a: window grown", "case_00006: window grown", "few cases")
    store = replace(ball_store, manifest=replace(ball_store.manifest, notes=notes))
    StudyManifest(Results(str(tmp_path)), tiny_study, "/one").describe_data(store, "balls", synthetic=True)
    warnings = storage.read_json(tmp_path / "manifest.json")["warnings"]
    assert warnings == ["window grown: a, case_00006 (test)", "few cases"]


def test_warnings_of_the_results_join_those_of_the_data_once(
    tiny_study: StudyConfig, ball_store: Store, tmp_path: Path
) -> None:
    noted = replace(ball_store, manifest=replace(ball_store.manifest, notes=("noise",)))
    for _ in range(2):
        manifest = StudyManifest(Results(str(tmp_path)), tiny_study, None)
        manifest.describe_data(noted, "balls", synthetic=True)
        manifest.warn(["test cases were read before"])
        manifest.warn(["test cases were read before"])
        assert storage.read_json(tmp_path / "manifest.json")["warnings"] == ["noise", "test cases were read before"]
