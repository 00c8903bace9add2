"""Prediction on one scan: names, kidneys that are found, and kidneys that are left out."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.bundles import bundle_config
from support.label_sets import ARTERY, CYST, VEIN, VESSELS

from renalnet.config import (
    KIDNEY_TUMOR,
    InferenceConfig,
    LabelSet,
    NetConfig,
    Normalisation,
    PhantomConfig,
    PrepareConfig,
    StitchConfig,
    TrainConfig,
)
from renalnet.data.cases.loading import load_scan
from renalnet.data.cases.sides import SIDE_VALUES, split_sides
from renalnet.data.images.volume import Grid, Volume, write_volume
from renalnet.data.localise.atlas import make_atlas
from renalnet.data.localise.localiser import LOW_CONFIDENCE
from renalnet.data.phantom import paint_abdomen, paint_other_part
from renalnet.errors import CheckpointError, InputError
from renalnet.inference.pipeline import Model, load_ensemble
from renalnet.localiser.finder import KidneyFinder
from renalnet.nets import build_net
from renalnet.nets.bundle import save_model
from renalnet.prediction import predictor as predictor_module
from renalnet.prediction.outcome import Prediction
from renalnet.prediction.output_names import other_names, scan_names
from renalnet.prediction.predictor import Predictor, load_predictor, predict_image
from renalnet.prediction.scan_jobs import ModelUse, list_jobs
from renalnet.runtime.device import pick_device


def predict(predictor: Predictor, path: Path) -> Prediction:
    return predict_image(predictor, *load_scan(path))


COARSE = PhantomConfig(shape=(60, 110, 110), spacing_mm=(5.0, 3.2, 3.2), contrast="narrow")


def test_masks_are_named_after_their_scans() -> None:
    assert scan_names([Path("a/1.2.840.nii.gz"), Path("b/x.nrrd")]) == ["1.2.840", "x"]


def test_repeated_names_take_their_folders() -> None:
    scans = [Path("case_1/imaging.nii.gz"), Path("case_2/imaging.nii.gz"), Path("c/other.mha")]
    assert scan_names(scans) == ["case_1", "case_2", "other"]


def test_as_many_folders_as_tell_scans_apart() -> None:
    scans = [Path(f"{patient}/{study}/CT") for patient, study in (("p1", "a"), ("p1", "b"), ("p2", "a"))]
    assert scan_names(scans) == ["p1_a", "p1_b", "p2_a"]
    # The folder of one scan may have the name of another scan.
    assert scan_names([Path("/a/1/ct.nii"), Path("/a/2/ct.nii"), Path("/b/1.nii")]) == ["a_1", "a_2", "b"]
    assert scan_names([Path("/a/b/ct.nii"), Path("/a/b/../ct.nii.gz")]) == ["b", "a"]


def test_an_ending_tells_files_of_one_folder_apart() -> None:
    assert scan_names([Path("a/ct.nii"), Path("a/ct.nii.gz"), Path("b/ct.mha")]) == ["ct_nii", "ct_nii_gz", "ct"]


def test_long_names_are_cut_and_still_differ() -> None:
    one, other = scan_names([Path(f"{'ä' * 120}{end}.nii.gz") for end in ("1", "2")])
    assert one != other and one.startswith("ä" * 80)
    assert all(len(name.encode()) <= 180 for name in (one, other))
    assert scan_names([Path(f"{'x' * 180}.nii.gz")]) == ["x" * 180]


def test_a_scan_that_is_named_twice_is_one_job(tmp_path: Path) -> None:
    (tmp_path / "ct.nii.gz").touch()
    (job,) = list_jobs([tmp_path / "ct.nii.gz", tmp_path], ModelUse("model"), "out")
    assert job.stem == "out/ct"


def test_further_names_are_those_of_more_folders_and_of_one_scan_each() -> None:
    scans = [Path("/data/1/p/ct.nii"), Path("/data/1/other.nii"), Path("/more/q.nii")]
    names = scan_names(scans)
    assert names == ["ct", "other", "q"]
    assert other_names(scans, names) == [("p", "1_p", "data_1_p"), ("1", "data_1"), ("more",)]
    # Of both scans, the folder around is `p`; it could replace the mask of neither.
    assert other_names([Path("/a/p/ct.nii"), Path("/p/q.nii")], ["ct", "q"]) == [("a_p",), ()]


def test_names_that_stay_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="two scans would write the mask 'imaging_nii_gz'"):
        scan_names([Path("a/imaging.nii.gz"), Path("a/imaging.nii.gz")])


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        load_predictor(tmp_path)


def test_a_model_without_atlases_names_the_folders_that_have_them(tmp_path: Path) -> None:
    train = TrainConfig(net=NetConfig(width=4, ppm_kernels=(1, 2)), precision="float32")
    config = bundle_config(train, roi=PrepareConfig())
    save_model(tmp_path, dict(build_net(train.net, train.labels).state_dict()), config)
    rule = r"lacks .*; name the `best` folder of a study, or the folder of a finished `renalnet train`"
    with pytest.raises(CheckpointError, match=rule):
        load_predictor(tmp_path)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """Return an untrained network with the atlases of four phantoms."""
    prepare = PrepareConfig(spacing_mm=(6.0, 4.0, 4.0))
    painted = [paint_abdomen(COARSE, index) for index in range(4)]
    atlases = [make_atlas(f"p{i}", p.image, p.label, prepare, synthetic=True) for i, p in enumerate(painted)]
    device = pick_device("float32")
    net = device.place(build_net(NetConfig(width=4, ppm_kernels=(1, 2)), KIDNEY_TUMOR)).eval()
    model = Model((net,), Normalisation(-200, 500, 0.3), KIDNEY_TUMOR, device, bundle_config())
    stitch = StitchConfig(tile=(16, 32, 32), stride=(16, 32, 32))
    return Predictor(model, KidneyFinder(None, atlases, prepare), prepare, InferenceConfig(stitch=stitch))


@pytest.mark.slow
def test_a_doubtful_kidney_is_left_out_and_named(predictor: Predictor, tmp_path: Path) -> None:
    case = paint_abdomen(COARSE.model_copy(update={"seed": 5}), 0)
    image = case.image.array.copy()
    image[split_sides(case.label, case.image) == SIDE_VALUES["left"]] = -100
    write_volume(tmp_path / "ct.nii.gz", Volume(image, case.image.grid))
    prediction = predict(predictor, tmp_path / "ct.nii.gz")
    told = prediction.to_json()
    assert prediction.segmented == ("right",)
    assert told["kidneys"]["left"]["segmented"] is False
    assert told["confidence"] == told["kidneys"]["right"]["confidence"] >= LOW_CONFIDENCE
    assert any("no left kidney segmented (confidence" in warning for warning in prediction.warnings)
    columns = np.flatnonzero(prediction.mask.array.any(axis=(0, 1)))
    assert len(columns) == 0 or columns[-1] < case.image.grid.shape[2] * 0.6  # nothing far on the left


def test_where_both_sides_overlap_the_more_important_label_stays() -> None:
    """Vessels yield to the kidney, the kidney to its lesions, and a cyst to the tumor."""
    sides = [[0, 1, 1, 2, CYST, ARTERY, VEIN, 0], [1, 2, CYST, CYST, 1, 1, ARTERY, 0]]
    parts = [np.array(values, np.uint8).reshape(1, 1, 8) for values in sides]
    expected = [1, 2, CYST, 2, CYST, 1, VEIN, 0]
    for order in (parts, parts[::-1]):
        joined = predictor_module._joined(order, (1, 1, 8), VESSELS)
        assert (joined.ravel().tolist(), joined.dtype) == (expected, np.uint8)
    assert not predictor_module._joined([], (1, 1, 8), VESSELS).any()


def test_a_prediction_has_the_volume_of_each_label(tmp_path: Path) -> None:
    grid = Grid.axis_aligned((16, 30, 30), (6.0, 4.0, 4.0))
    model = load_ensemble([save_untrained(tmp_path, VESSELS)])
    stitch = StitchConfig(tile=(16, 32, 32), stride=(16, 32, 32))
    prepare = PrepareConfig(spacing_mm=(6.0, 4.0, 4.0))
    predictor = Predictor(model, KidneyFinder(None, [], prepare), prepare, InferenceConfig(stitch=stitch))
    scan = Volume(np.random.default_rng(0).integers(-100, 300, grid.shape).astype(np.int16), grid)
    found = predict_image(predictor, scan, grid)
    voxel_ml = 6 * 4 * 4 / 1000
    assert found.volume_ml == {
        label.name: pytest.approx(int((found.mask.array == label.value).sum()) * voxel_ml) for label in VESSELS.labels
    }


def save_untrained(folder: Path, labels: LabelSet) -> str:
    """Write the bundle of an untrained network."""
    train = TrainConfig(labels=labels, net=NetConfig(width=4, ppm_kernels=(1, 2)), precision="float32")
    save_model(folder, dict(build_net(train.net, labels).state_dict()), bundle_config(train))
    return str(folder)


@pytest.mark.slow
def test_a_scan_without_kidneys_gets_an_empty_mask_and_a_warning(predictor: Predictor, tmp_path: Path) -> None:
    write_volume(tmp_path / "head.nii.gz", paint_other_part("head", COARSE, 0))
    prediction = predict(predictor, tmp_path / "head.nii.gz")
    assert not prediction.mask.array.any() and prediction.segmented == ()
    (warning,) = prediction.warnings
    assert re.match(r"no kidney found \(confidence left 0\.\d\d, right 0\.\d\d;", warning)


def test_a_scan_cut_to_a_kidney_is_not_searched(predictor: Predictor, tmp_path: Path) -> None:
    grid = Grid.axis_aligned((16, 30, 30), (6.0, 4.0, 4.0))
    write_volume(tmp_path / "roi.nii.gz", Volume(np.full(grid.shape, 40, np.int16), grid))
    told = predict(predictor, tmp_path / "roi.nii.gz").to_json()
    assert told["confidence"] is None
    assert [name.split()[0] for name in told["backends"]] == ["torch"]
    assert told["kidneys"] == {}
