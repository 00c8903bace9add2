"""A study goes on with the store that it started with, also if a version before wrote both."""

from dataclasses import replace
from pathlib import Path

import pytest

from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from renalnet.runtime import storage
from study.config.sections import StudyConfig
from study.records.manifest import StudyManifest
from study.records.results import Results


def test_a_study_on_an_older_store_goes_on_and_a_new_store_is_another(
    ball_store: Store, tiny_study: StudyConfig, tmp_path: Path
) -> None:
    assert ball_store.manifest.content == ""  # as in stores of older versions: the fingerprint is that of the shards
    StudyManifest(Results(str(tmp_path)), tiny_study, "/store").describe_data(ball_store, "/store", synthetic=True)
    again = StudyManifest(Results(str(tmp_path)), tiny_study, "/store")
    again.describe_data(ball_store, "/store", synthetic=True)
    assert storage.read_json(tmp_path / "manifest.json")["data"]["fingerprint"] == ball_store.fingerprint
    anew = replace(ball_store, manifest=replace(ball_store.manifest, content="0123456789abcdef"))
    with pytest.raises(ResultsError, match="has changed since this study began"):
        again.describe_data(anew, "/store", synthetic=True)
