"""The evidence of a finished study: its tables, text, figures and manifest, and another program beside it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.study_command import copy_study

from renalnet.config import fingerprint, parse
from renalnet.data.images.volume import Volume, to_source, write_volume
from renalnet.data.phantom.label_maps import MAP_SPLITS
from renalnet.data.store.reader import Store
from renalnet.runtime.storage import write_json
from renalnet.types import Split
from study.config.sections import StudyConfig
from study.evidence.figures import MAX_BYTES
from study.evidence.plan import Work, painter
from study.evidence.stages import run_stages
from study.evidence.work_log import WorkLog
from study.records.content import load_results, load_view

pytestmark = pytest.mark.slow


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def work(finished: Path, ball_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A work folder in which only the tables are left."""
    made = Work(tmp_path_factory.mktemp("evidence") / "work")
    shutil.copytree(ball_store.path, made.store)
    copy_study(finished, Path(made.results.folder))
    config = config_of(made)
    for split in MAP_SPLITS:
        stamp = {"finished": True, "fingerprint": fingerprint(painter(config, split))}
        write_json(made.cohort(split) / "cohort.json", stamp)
    return made


def config_of(work: Work) -> StudyConfig:
    return parse(StudyConfig, work.results.manifest().config)


@pytest.fixture(scope="module")
def maps(ball_store: Store, work: Work) -> dict[Split, dict[str, Path]]:
    """Two collections, each with the name of one test case."""
    found: dict[Split, dict[str, Path]] = {"train": {}, "test": {}}
    for number, case in enumerate(ball_store.cases("test")):
        path = work.folder / f"collection-{number}" / "test" / f"{case}.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(number))
        found["test"][case] = path
    return found


@pytest.fixture(scope="module")
def out(work: Work, maps: dict[Split, dict[str, Path]], ball_store: Store) -> Path:
    """The evidence, with the truth as the masks of another program."""
    for roi in map(ball_store.read, ball_store.cases("test")):
        write_volume(work.folder / "truth" / f"{roi.case}.nii.gz", to_source(Volume(roi.label, roi.grid), roi.source))
    folder = work.folder / "out"
    run_stages(config_of(work), work, maps, [("expert", work.folder / "truth")], folder)
    return folder


def test_collections_and_all_cases_have_each_method(out: Path) -> None:
    rows = read(out / "collections.csv")
    assert {row["group"] for row in rows} == {"collection-0", "collection-1", "together"}
    together = {row["network"]: row for row in rows if row["group"] == "together" and row["role"] != "paper"}
    table = {row["network"]: row for row in read(out / "table_one.csv") if row["role"] != "paper"}
    assert together.keys() == table.keys() and "expert" in table
    for network, row in together.items():
        assert row["dice_kidney_mean"] == table[network]["dice_kidney_mean"]
        assert row["dice_tumor_mean"] == table[network]["dice_tumor_where_present_mean"]
    assert float(together["expert"]["dice_tumor_mean"]) == float(together["expert"]["sensitivity"]) == 1


def test_errors_by_region_are_all_errors(out: Path, work: Work) -> None:
    content = load_results(work.results)
    views = [load_view(content, case) for case in content.view_cases]
    wrong_ml = sum(
        float((view.predictions["fcn_ppm"] != view.truth).sum() * np.prod(view.spacing_mm) / 1000) for view in views
    )
    rows = read(out / "by_region.csv")
    assert sum(float(row["error_ml"]) for row in rows if row["network"] == "fcn_ppm") == pytest.approx(wrong_ml)
    assert all(float(row["error_ml"]) == 0 for row in rows if row["network"] == "expert")


def test_every_table_has_rows_and_the_text_has_their_numbers(out: Path) -> None:
    for name in ("by_volume", "by_contrast", "ranks", "optimism", "validation_cases", "inside_rule", "differences"):
        assert read(out / f"{name}.csv"), name
    text = (out / "tables.md").read_text(encoding="utf-8")
    for row in read(out / "ranks.csv"):
        assert f"| {float(row['validation']):.3f} | {float(row['test']):.3f} |" in text
    assert "0.983" in text and "One threshold inside" in text


def test_figures_are_small_pictures(out: Path) -> None:
    for name in ("fig4", "fig5", "fig6"):
        content = (out / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) <= MAX_BYTES


def test_the_manifest_names_what_it_was_made_from_and_no_folder(out: Path, work: Work) -> None:
    text = (out / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    assert manifest["maps"] == {f"collection-{n}": {"train": 0, "test": 1} for n in (0, 1)}
    assert manifest["store"]["num_cases"]["test"] == 2
    assert manifest["winner"].startswith("fcn_ppm")
    assert manifest["durations_s"].keys() == {"tables"} and manifest["peak_memory_mb"] > 50
    assert str(work.folder.parent) not in text


def test_durations_add_up_over_calls(tmp_path: Path) -> None:
    for _ in range(2):
        log = WorkLog(tmp_path / "log.json")
        before = log.durations_s.get("paint", 0.0)
        with pytest.raises(KeyError), log.timed("paint"):
            raise KeyError
        assert log.durations_s["paint"] >= before
    assert WorkLog(tmp_path / "log.json").durations_s.keys() == {"paint"}
