"""The winner's bundle is replaced as a whole, on a disk and on an object store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from renalnet.runtime import storage
from study.final import best
from study.final.best import replace_best
from study.records.ledger import Ledger
from study.records.results import Results


def bundle(**files: str) -> Callable[[str], None]:
    def build(folder: str) -> None:
        for name, content in files.items():
            storage.write_bytes(storage.join(folder, name.replace("_", "/")), content.encode())

    return build


def content(results: Results) -> dict[str, bytes]:
    names = storage.list_files(results.best_folder)
    return {name: storage.read_bytes(storage.join(results.best_folder, name)) for name in names}


def known(results: Results) -> set[str]:
    found = Ledger(results).find()
    assert found is not None
    return set(found.files)


@pytest.fixture(params=["disk", "disk without exchange", "object store"])
def results(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    if request.param == "object store":
        return Results(request.getfixturevalue("s3_uri"))
    if request.param == "disk without exchange":
        monkeypatch.setattr(best, "_exchange", lambda *_: False)
    return Results(str(tmp_path))


def test_nothing_of_the_earlier_bundle_is_left(results: Results) -> None:
    replace_best(results, bundle(model="1", members_2_model="2"))
    assert known(results) == {"best/model", "best/members/2/model"}
    replace_best(results, bundle(model="3"))
    assert content(results) == {"model": b"3"} and known(results) == {"best/model"}
    assert set(storage.list_names(results.folder)) - {"best", "ledger.json"} == set()


def test_an_equal_bundle_is_left_alone(tmp_path: Path) -> None:
    results = Results(str(tmp_path))
    replace_best(results, bundle(model="1"))
    before = (tmp_path / "best" / "model").stat()
    replace_best(results, bundle(model="1"))
    after = (tmp_path / "best" / "model").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_bundle_that_cannot_be_built_leaves_the_earlier_one(results: Results) -> None:
    def fail(folder: str) -> None:
        bundle(model="2")(folder)
        raise KeyboardInterrupt

    replace_best(results, bundle(model="1"))
    with pytest.raises(KeyboardInterrupt):
        replace_best(results, fail)
    assert content(results) == {"model": b"1"} and known(results) == {"best/model"}
    replace_best(results, bundle(model="3"))
    assert content(results) == {"model": b"3"}
