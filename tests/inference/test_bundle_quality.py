"""`quality.json` of a model bundle: its content, the estimates that it gives, and the remarks on unfamiliar scans."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import commands
from support.balls import ball_roi
from support.bundles import bundle_config

from renalnet.config import (
    KIDNEY_TUMOR,
    CrfConfig,
    InferenceConfig,
    NetConfig,
    PhantomConfig,
    PrepareConfig,
    StitchConfig,
    TrainConfig,
)
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.checks.facts_file import facts_to_bytes
from renalnet.data.images.grid import Grid
from renalnet.data.images.volume import Volume, write_volume
from renalnet.data.localise.atlas import ATLAS_FILE, Atlas, atlases_to_bytes, make_atlas
from renalnet.data.phantom import paint_abdomen
from renalnet.data.store.manifest import FileEntry
from renalnet.data.store.reader import MANIFEST, Store
from renalnet.data.store.writer import write_store
from renalnet.errors import CheckpointError
from renalnet.evaluation.mask_quality import Calibration, Signs, signs_of
from renalnet.inference.pipeline import segment_roi
from renalnet.inference.quality_file import (
    QUALITY_FILE,
    SIGNS,
    BundleQuality,
    LearnedQuality,
    TrainingScans,
    read_quality,
    training_scans,
    write_quality,
)
from renalnet.localiser.bundle_files import LOCALISER_FILE
from renalnet.localiser.finder import KidneyFinder
from renalnet.localiser.network import network_to_bytes, new_network, packaged_network
from renalnet.nets import build_net
from renalnet.nets.bundle import save_model
from renalnet.nets.tensor_file import digest_of
from renalnet.prediction.familiarity import kidney_remarks, scan_remarks
from renalnet.prediction.predictor import Predictor, load_predictor, predict_image
from renalnet.prediction.scan_jobs import ModelUse, list_jobs, predict_scan
from renalnet.runtime import storage
from renalnet.types import HuArray

ROI = Grid.axis_aligned((24, 40, 44), (3.0, 2.0, 2.0))
"""As small as an ROI that is already cut."""
ENHANCED = TrainingScans(30, (120.0, 230.0), (1.0, 3.0))
COARSE = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2), contrast="narrow")


def facts(case: str, kidney_hu: float | None, spacing_z_mm: float) -> CaseFacts:
    """Return facts of which only these are plausible."""
    columns: dict[str, Any] = dict.fromkeys((field.name for field in fields(CaseFacts)), 0)
    return CaseFacts(**{**columns, "case": case, "kidney_hu": kidney_hu, "spacing_z_mm": spacing_z_mm})


def store_with(folder: Path, known: Sequence[CaseFacts]) -> Store:
    """Write a store of five training cases and a validation case, with these facts."""
    names = [f"case_{number}" for number in range(6)]
    rois = [ball_roi(name, "validation" if name == "case_5" else "train", 0) for name in names]
    store = write_store(folder, rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut"))
    content = facts_to_bytes(known)
    entry = FileEntry.of("facts", content)
    storage.write_bytes(storage.join(store.path, entry.name), content)
    manifest = replace(store.manifest, facts=entry)
    storage.write_json(storage.join(store.path, MANIFEST), manifest.to_json())
    return replace(store, manifest=manifest)


def test_ranges_are_those_of_the_training_cases(tmp_path: Path) -> None:
    """Among 100, 110, .., 140 the quantile 0.5 % is 2 % of the way from 100 to 110. Validation cases do not count."""
    known = [facts(f"case_{number}", 100 + 10 * number, 3.0) for number in range(5)]
    found = training_scans(store_with(tmp_path, [*known, facts("case_5", 500, 9.0)]))
    assert found is not None and found.num_cases == 5
    assert found.kidney_hu == pytest.approx((100.2, 139.8)) and found.spacing_z_mm == (3.0, 3.0)


def test_a_store_that_knows_no_kidney_gives_no_ranges(ball_store: Store, tmp_path: Path) -> None:
    assert training_scans(ball_store) is None
    assert training_scans(store_with(tmp_path, [facts("case_0", None, 3.0), facts("case_5", 200, 3.0)])) is None


def calibration(sign: str, mean: float) -> Calibration:
    """Return an estimate of `mean` + 0.1 · (`sign` - 0.5) / 0.25."""
    scale = np.where([name == sign for name in SIGNS], 0.25, np.inf)
    weights = np.full(len(SIGNS), 0.1)
    return Calibration(np.full(len(SIGNS), 0.5), scale, weights, mean, np.array([0.8, 0.9, 1.0, 0.7, 0.6]), 0.04)


LEARNED = LearnedQuality(
    calibration("expected_dice_kidney", 0.8), calibration("expected_dice_tumor", 0.6), "quick", synthetic=True
)


def test_a_file_keeps_ranges_and_estimates(tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", [facts("case_0", 150, 2.0)])
    write_quality(str(tmp_path), store, LEARNED)
    found = read_quality(tmp_path)
    assert found.training == TrainingScans(1, (150.0, 150.0), (2.0, 2.0))
    values: dict[str, Any] = dict.fromkeys(SIGNS, 0)
    signs = Signs(**{**values, "expected_dice_kidney": 1.0, "expected_dice_tumor": 0.75})
    assert found.learned is not None
    quality = asdict(found.learned.estimate(signs))
    assert quality.pop("calibrated_on") == "5 validation cases of study 'quick' (synthetic images)"
    assert quality == pytest.approx({"dice_kidney": 1.0, "dice_tumor": 0.7, "error_kidney": 0.04, "error_tumor": 0.04})


def test_a_bundle_without_calibration_keeps_its_ranges(tmp_path: Path) -> None:
    write_quality(str(tmp_path), store_with(tmp_path / "store", [facts("case_0", 150, 2.0)]))
    assert read_quality(tmp_path) == BundleQuality(None, TrainingScans(1, (150.0, 150.0), (2.0, 2.0)))


@pytest.mark.slow
def test_train_states_the_ranges_of_its_store(tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", [facts("case_0", 150, 2.0)])
    settings = ("net.width=4", "epochs=1", "steps_per_epoch=1", "optim.batch_size=1", "patch.shape=[8,16,16]")
    options = [word for setting in settings for word in ("--set", setting)]
    words = ["train", store.path, "--out", str(tmp_path / "run"), "--preset", "quick", "--threads", "1", *options]
    done = commands.run([sys.executable, "-m", "renalnet", *words])
    assert done.returncode == 0, done.stderr
    assert read_quality(tmp_path / "run") == BundleQuality(None, TrainingScans(1, (150.0, 150.0), (2.0, 2.0)))


def make_bundle(folder: Path, *, kidney_bias: float = 0.0, atlases: Sequence[Atlas] = ()) -> str:
    """Return the bundle of an untrained network; with a large bias it labels every voxel as kidney."""
    stitch = StitchConfig(tile=(16, 32, 32), stride=(16, 32, 32))
    train = TrainConfig(net=NetConfig(width=4, ppm_kernels=(1, 2)), stitch=stitch, precision="float32")
    torch.manual_seed(0)
    weights = dict(build_net(train.net, train.labels).state_dict())
    weights["head.bias"][KIDNEY_TUMOR.kidney.value] += kidney_bias
    config = bundle_config(
        train,
        roi=PrepareConfig(spacing_mm=(3.0, 2.0, 2.0)),
        final=InferenceConfig(crf=CrfConfig(iterations=0), stitch=stitch),
    )
    save_model(folder, weights, config)
    storage.write_bytes(storage.join(folder, ATLAS_FILE), atlases_to_bytes(atlases))
    storage.write_bytes(storage.join(folder, LOCALISER_FILE), network_to_bytes(new_network(0)))
    return str(folder)


def noise(seed: int = 0) -> HuArray:
    return np.random.default_rng(seed).integers(-200, 400, ROI.shape).astype(np.int16)


def predicted(bundle: str, image: HuArray, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the printed line and the JSON file of a prediction on an ROI."""
    write_volume(folder / "roi.nii.gz", Volume(image, ROI))
    (job,) = list_jobs([folder / "roi.nii.gz"], ModelUse(bundle), str(folder / "out"))
    report = predict_scan(job)
    assert not report.failure
    return report.line, storage.read_json(f"{job.stem}.json")


def test_the_estimate_of_a_mask_is_that_of_its_signs(ball_store: Store, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    write_quality(bundle, ball_store, LEARNED)
    line, told = predicted(bundle, noise(), tmp_path)
    predictor = load_predictor(bundle)
    found = segment_roi(predictor.model, noise(), ROI.spacing_mm, predictor.inference)
    signs = signs_of(found.probability, found.network, found.final, ROI.spacing_mm, KIDNEY_TUMOR)
    expected = [0.8 + 0.4 * (signs.expected_dice_kidney - 0.5), 0.6 + 0.4 * (signs.expected_dice_tumor - 0.5)]
    quality = told["quality"]
    assert all(0 < value < 1 and value != mean for value, mean in zip(expected, (0.8, 0.6), strict=True))
    assert [quality["dice_kidney"], quality["dice_tumor"]] == pytest.approx(expected, abs=1e-6)
    assert line.endswith(f"; expected Dice: kidney {expected[0]:.2f}, tumor {expected[1]:.2f}")


def plausible(warnings: Iterable[str]) -> list[str]:
    """Leave out the warnings of volumes and pieces, as the masks are those of networks that have learned nothing."""
    return [warning for warning in warnings if "; check the mask" not in warning]


def test_a_bundle_without_the_file_predicts_without_estimates(tmp_path: Path) -> None:
    line, told = predicted(make_bundle(tmp_path / "bundle"), noise(), tmp_path)
    assert told["quality"] is None and plausible(told["warnings"]) == [] and "expected" not in line


def without_checksum(text: str) -> str:
    return json.dumps({name: value for name, value in json.loads(text).items() if name != "checksum"})


def with_foreign_sign(text: str) -> str:
    values = json.loads(without_checksum(text))
    values["learned"]["signs"][0] = "smell"
    return json.dumps({"checksum": digest_of(b"", values), **values})


DAMAGES = {
    "differs from its checksum": lambda text: text.replace("0.04", "0.01"),
    "not JSON": lambda text: text[:100],
    "'checksum'": without_checksum,
    "no attribute": lambda _: "[]",
    "unknown sign 'smell'": with_foreign_sign,
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_damaged_file_is_one_error(reason: str, ball_store: Store, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    write_quality(bundle, ball_store, LEARNED)
    path = tmp_path / QUALITY_FILE
    path.write_text(DAMAGES[reason](path.read_text()))
    with pytest.raises(CheckpointError, match=rf"quality\.json: damaged, .*{reason}.*; restore the file") as caught:
        load_predictor(bundle)
    assert "\n" not in str(caught.value)


def test_an_unenhanced_scan_is_named(tmp_path: Path) -> None:
    """The network labels every voxel as kidney, so the mean is that of the scan."""
    predictor = replace(load_predictor(make_bundle(tmp_path, kidney_bias=100)), quality=BundleQuality(None, ENHANCED))
    image = np.where(np.indices(ROI.shape).sum(axis=0) % 2, -50, 350).astype(np.int16)
    (of_volume,) = predict_image(predictor, Volume(image, ROI), ROI).warnings
    assert of_volume.startswith("the kidney of 506.9 ml, outside the plausible range of 30 to 400 ml")
    warning, _ = predict_image(predictor, Volume(image - np.int16(120), ROI), ROI).warnings
    assert warning == (
        "the kidney has a mean of 30 HU, but the kidneys that this model learned from have 120 to 230 HU; "
        "an unenhanced scan?"
    )


def test_kidneys_outside_the_range_by_more_than_the_margin_are_named() -> None:
    values = (None, 31, 99, 101, 249, 251)
    named = [hu for hu in values if list(kidney_remarks(hu, "left kidney", ENHANCED))]
    assert named == [31, 99, 251]
    assert list(kidney_remarks(31, "left kidney", None)) == []
    (line,) = kidney_remarks(251, "left kidney", ENHANCED)
    assert line.startswith("left kidney has a mean of 251 HU") and line.endswith("another phase, or not a kidney?")


def scan(*values: int, spacing_z_mm: float = 3.0) -> Volume:
    array = np.array(values, np.int16).reshape(1, 1, -1)
    return Volume(array, Grid.axis_aligned(array.shape, (spacing_z_mm, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("volume", "is_cut", "expected"),
    [
        (scan(-1000, 40), False, None),
        (scan(-501, 40), False, None),
        (scan(-500, 40), False, r"no voxel below -500 HU \(lowest -500\)"),
        (scan(-500, 40), True, None),
        (scan(0, 1064), False, r"no value below 0 \(lowest 0\)"),
        (scan(12, 1064), True, r"no value below 0 \(lowest 12\)"),
        (scan(-1000, 40, spacing_z_mm=4.5), False, None),
        (scan(-1000, 40, spacing_z_mm=5.0), False, "slices every 5 mm, but .* from slices every 1 to 3 mm"),
    ],
)
def test_scans_that_are_no_ct_or_have_thick_slices_are_named(
    volume: Volume, is_cut: bool, expected: str | None
) -> None:
    found = list(scan_remarks(volume, ENHANCED, is_cut=is_cut))
    assert len(found) == (0 if expected is None else 1)
    assert expected is None or re.match(expected, found[0])


@pytest.fixture(scope="module")
def abdominal(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """For whole scans, whose kidneys are found by the atlases of four phantoms."""
    predictor = load_predictor(make_bundle(tmp_path_factory.mktemp("bundle")))
    painted = [paint_abdomen(COARSE, index) for index in range(4)]
    atlases = [make_atlas(f"p{i}", p.image, p.label, predictor.prepare, synthetic=True) for i, p in enumerate(painted)]
    finder = KidneyFinder(None, atlases, predictor.prepare)
    return replace(predictor, finder=finder, quality=BundleQuality(LEARNED, None))


@pytest.mark.slow
def test_each_side_has_an_estimate(abdominal: Predictor) -> None:
    image = paint_abdomen(COARSE.model_copy(update={"seed": 5}), 0).image
    found = predict_image(abdominal, image, image.grid)
    told = found.to_json()
    assert found.segmented == ("left", "right") and told["quality"] is None and plausible(found.warnings) == []
    left, right = (told["kidneys"][side]["quality"] for side in found.segmented)
    assert left != right and left["calibrated_on"] == right["calibrated_on"]
    assert all(0 <= each[name] <= 1 for each in (left, right) for name in ("dice_kidney", "dice_tumor"))


@pytest.mark.slow
def test_a_kidney_that_the_scan_cuts_has_no_estimate(abdominal: Predictor) -> None:
    painted = paint_abdomen(COARSE.model_copy(update={"seed": 5}), 0)
    slices = np.flatnonzero(painted.label.array.any(axis=(1, 2)))
    middle = int(slices.mean())
    array = painted.image.array[middle:]
    upper = Volume(array, Grid.axis_aligned(array.shape, COARSE.spacing_mm))
    predictor = replace(abdominal, finder=KidneyFinder(packaged_network(), [], abdominal.prepare))
    found = predict_image(predictor, upper, upper.grid)
    partial = [side for side in found.segmented if f"{side} kidney: the scan shows only a part of it" in found.warnings]
    assert partial and not set(partial) & set(found.side_quality)
    assert all(found.to_json()["kidneys"][side]["quality"] is None for side in partial)


@pytest.mark.slow
def test_remarks_on_a_scan_without_kidneys_follow_the_reason(abdominal: Predictor) -> None:
    picture = paint_abdomen(COARSE, 0).image
    flat = Volume(np.full_like(picture.array, 40), picture.grid)
    no_kidney, remark = predict_image(abdominal, flat, flat.grid).warnings
    assert no_kidney.startswith("no kidney found") and remark.startswith("no value below 0")
