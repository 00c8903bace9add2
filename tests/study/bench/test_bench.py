import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from renalnet.data.store.reader import open_store
from renalnet.errors import ConfigError, ResultsError
from study.bench.__main__ import app
from study.bench.data import loader
from study.bench.data.library_loaders import LOADERS, Job, run
from study.bench.data.loader_processes import measure
from study.bench.measuring.processes import is_installed
from study.bench.measuring.size import Size
from study.bench.measuring.synthetic_rois import STORE, RoiPainter, read_arrays, write_rois
from study.bench.measuring.table import Row, as_json

ROI, CROP = (24, 32, 32), (8, 16, 16)
TINY = Size(patients=3, roi=ROI, crop=CROP, batches=6, peer_batches=3)


@pytest.fixture(scope="module")
def roi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rois")
    write_rois(folder, RoiPainter(ROI), 3, arrays=True)
    return folder


def test_times_better_by_hand() -> None:
    assert Row("a", "rate", "patches/s", 300.0, "peer", 40.0, "more").ratio == 7.5
    assert Row("a", "time", "s", 2.0, "peer", 50.0, "less").ratio == 25.0
    assert Row("a", "time", "s", 2.0, "peer", None, "less").ratio is None


def test_peers_read_the_same_patients(roi_folder: Path) -> None:
    store = open_store(roi_folder / STORE)
    files, scale = read_arrays(roi_folder)
    assert scale == store.normalisation
    for case, (image, label) in zip(store.cases("train"), files, strict=True):
        roi = store.read(case)
        assert np.array_equal(np.load(image), roi.image) and np.array_equal(np.load(label), roi.label)
        assert np.unique(roi.label).tolist() == [0, 1, 2]


@pytest.mark.parametrize("window", [0, 2])
def test_our_batches_are_what_is_compared(roi_folder: Path, window: int) -> None:
    job = Job("renalnet", str(roi_folder), CROP, 4, 6, warm_up=1, window=window)
    found = run(job, LOADERS["renalnet"](job))
    assert found["patches_per_s"] > 0 and found["total_s"] >= found["first_s"]


@pytest.mark.slow
def test_streaming_holds_as_much_memory_whatever_the_store(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    settings = ("growing_patients=[80,240]", "roi=[24,32,32]", "crop=[8,16,16]", "patients=6", "batches=20")
    words = [word for setting in settings for word in ("--set", setting)]
    done = CliRunner().invoke(app, ["stream", *words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    peaks = [row["ours"] for row in report["rows"] if row["what"].endswith("peak")]
    assert len(peaks) == 2 and peaks[1] <= 1.1 * peaks[0]
    assert report["versions"]["torch"] and report["machine"]["num_cores"] and report["commit"]
    assert report["options"]["growing_patients"] == [80, 240]


def test_unknown_benchmark_is_refused() -> None:
    done = CliRunner().invoke(app, ["lodaer"])
    assert isinstance(done.exception, ConfigError) and "did you mean 'loader'" in str(done.exception)


@pytest.mark.slow
def test_a_loader_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"benchmark of renalnet failed: .*no store here"):
        measure(Job("renalnet", str(tmp_path), CROP, 4, 1))


def test_a_report_says_what_it_depends_on() -> None:
    report = as_json([Row("a", "rate", "1/s", 6.0, "peer", 3.0)], {"patients": 3})
    assert report["rows"][0]["ratio"] == 2.0
    assert report["versions"]["numpy"] == np.__version__


@pytest.mark.slow
def test_absent_peers_are_said_to_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "is_installed", lambda _: False)
    monkeypatch.setattr(loader, "NUM_TRIALS", 2)
    rows = list(loader.rows(TINY, tmp_path))
    assert {row.peer for row in rows if row.peer} == set(LOADERS) - {"renalnet"}
    assert all(row.ours and row.theirs is None for row in rows)
    assert all("not installed" in row.note for row in rows if row.what == "steady state")


@pytest.mark.slow
@pytest.mark.parametrize("peer", [name for name in LOADERS if name != "renalnet"])
def test_peers_give_the_same_tensors(peer: str, roi_folder: Path) -> None:
    if not is_installed(peer):
        pytest.skip(f"{peer} is not installed")
    assert measure(Job(peer, str(roi_folder), CROP, 2, 3))["patches_per_s"] > 0
