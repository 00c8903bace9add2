"""Prediction on many scans: which scans are found, which files are written, and scans that fail."""

import hashlib
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from support import commands
from support.bundles import ROI, make_bundle
from support.dicom_files import write_series
from typer import Exit

from renalnet.commands.predict import print_reports
from renalnet.config import KIDNEY_TUMOR, PhantomConfig, PrepareConfig
from renalnet.data.cases.layouts import find_scans
from renalnet.data.cases.loading import load_scan
from renalnet.data.dicom.segmentation import read_segmentation
from renalnet.data.images.volume import Grid, Volume, grid_difference, read_volume, write_volume
from renalnet.data.localise.atlas import make_atlas
from renalnet.data.phantom import paint_abdomen
from renalnet.errors import ConfigError, InputError
from renalnet.prediction.formats import FORMATS, parse_formats
from renalnet.prediction.output_names import free_stem
from renalnet.prediction.predictor import load_predictor
from renalnet.prediction.scan_jobs import ModelUse, ScanJob, ScanReport, list_jobs, predict_scan
from renalnet.runtime import storage
from renalnet.types import HuArray


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """For ROIs that are already cut."""
    return make_bundle(tmp_path_factory.mktemp("bundle"), [])


def image(seed: int = 0) -> HuArray:
    return np.random.default_rng(seed).integers(-200, 400, ROI.shape).astype(np.int16)


def write_folder(folder: Path) -> None:
    """Write a file, a KiTS case and the DICOM series of two patients."""
    write_volume(folder / "loose.nrrd", Volume(image(1), ROI))
    write_volume(folder / "case_7" / "imaging.nii.gz", Volume(image(2), ROI))
    write_volume(folder / "case_7" / "segmentation.nii.gz", Volume(np.zeros(ROI.shape, np.uint8), ROI))
    for number, name in enumerate(("anna", "bert")):
        write_series(folder / name / "ct", image(3 + number), ROI)


def test_the_scans_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    expected = ["loose.nrrd", "anna", "bert", "case_7/imaging.nii.gz"]
    assert [scan.relative_to(tmp_path).as_posix() for scan in find_scans(tmp_path)] == expected
    assert find_scans(tmp_path / "anna") == [tmp_path / "anna"]
    assert find_scans(tmp_path / "anna" / "ct") == [tmp_path / "anna" / "ct"]
    assert find_scans(tmp_path, series="1") == [tmp_path]
    assert find_scans(tmp_path / "case_7") == [tmp_path / "case_7" / "imaging.nii.gz"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no scan"):
        find_scans(tmp_path / "empty")


@pytest.mark.slow
def test_what_cannot_be_read_is_listed_and_stops_no_other(bundle: str, tmp_path: Path) -> None:
    """A `.dcm` file without DICOM content, alone, in a folder of its own and among slices; and files that no one reads.

    Reading of /proc/self/mem fails from its first byte on.
    """
    scans = tmp_path / "scans"
    write_folder(scans)
    for name in ("content.dcm", "folder/notes.DCM", "bert/ct/more.dcm"):
        (scans / name).parent.mkdir(exist_ok=True)
        (scans / name).write_text("no DICOM")
    (scans / "unreadable").mkdir()
    (scans / "unreadable" / "IM0001").symlink_to("/proc/self/mem")
    (scans / "locked.nii").symlink_to("/proc/self/mem")
    (tmp_path / "empty").mkdir()
    jobs = list_jobs([tmp_path / "empty", scans, tmp_path / "none.nii"], ModelUse(bundle), str(tmp_path / "out"))
    failures = {job.scan.relative_to(tmp_path).as_posix(): predict_scan(job).failure for job in jobs}
    expected = {
        "empty": "holds no CT slices (no DICOM image",
        "scans/content.dcm": "content.dcm: has the ending of DICOM but not its content; copy it again or remove it",
        "scans/locked.nii": "locked.nii: not readable",
        "scans/loose.nrrd": "",
        "scans/anna": "",
        "scans/bert": "more.dcm: has the ending of DICOM but not its content",
        "scans/case_7/imaging.nii.gz": "",
        "scans/folder": "notes.DCM: has the ending of DICOM but not its content",
        "scans/unreadable": "IM0001: not readable (Input/output error)",
        "none.nii": "no such file",
    }
    assert list(failures) == list(expected)
    for scan, words in expected.items():
        assert words in failures[scan] and "\n" not in failures[scan] and bool(failures[scan]) == bool(words), scan


def run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return commands.run([sys.executable, "-m", *module.split(), *words])


def check_folder(out: Path, folder: Path) -> None:
    """Each scan has a mask and a JSON file; a series has a DICOM segmentation at the place of the NIfTI mask."""
    for name in ("loose", "imaging", "anna", "bert"):
        mask = read_volume(out / f"{name}.nii.gz")
        told = storage.read_json(out / f"{name}.json")
        assert mask.grid.shape == ROI.shape and set(told["volume_ml"]) == {"kidney", "tumor"}
        if (folder / name / "ct").is_dir():
            np.testing.assert_array_equal(
                read_segmentation(out / f"{name}.dcm", mask.grid, KIDNEY_TUMOR, {}), mask.array
            )
    assert {path.suffix for path in out.glob("imaging*")} == {".gz", ".json"}


@pytest.mark.slow
def test_a_bad_scan_stops_no_other(bundle: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "scans")
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"no image")
    done = run("renalnet predict", str(tmp_path / "scans"), "--model", bundle, "--out", str(tmp_path / "out"))
    assert done.returncode == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "broken.nii.gz" in error and "Traceback" not in done.stderr
    assert done.stdout.count(".nii.gz: kidney") == 4
    check_folder(tmp_path / "out", tmp_path / "scans")
    assert not list((tmp_path / "out").glob("broken*"))


@pytest.mark.slow
def test_over_a_cluster_it_writes_the_same(bundle: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "scans")
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"no image")
    words = (str(tmp_path / "scans"), "--model", bundle, "--out")
    here, there = (
        run(module, *words, str(tmp_path / folder))
        for module, folder in (("renalnet predict", "a"), ("study.predict", "b"))
    )
    assert there.returncode == 2 and "broken.nii.gz" in there.stderr, there.stderr
    assert there.stdout.replace(str(tmp_path / "b"), "") == here.stdout.replace(str(tmp_path / "a"), "")
    for path in sorted((tmp_path / "a").glob("*.nii.gz")):
        np.testing.assert_array_equal(read_volume(path).array, read_volume(tmp_path / "b" / path.name).array)
    check_folder(tmp_path / "b", tmp_path / "scans")


def test_the_grid_of_kits_files_is_kept(bundle: str, tmp_path: Path) -> None:
    """The first axis of such files is z, and the affine is anti-diagonal."""
    affine = np.array([[0, 0, -2.0, 40], [0, -2.0, 0, 30], [-3.0, 0, 0, 20], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(image(4), affine), tmp_path / "imaging.nii.gz")
    (job,) = list_jobs([tmp_path / "imaging.nii.gz"], ModelUse(bundle), str(tmp_path / "out"))
    assert not predict_scan(job).failure
    mask = nibabel.load(tmp_path / "out" / "imaging.nii.gz")
    assert mask.shape == ROI.shape
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    assert np.asarray(mask.dataobj).any()


def case_file(folder: Path, number: int) -> Path:
    path = folder / f"case_{number}" / "imaging.nii.gz"
    write_volume(path, Volume(image(number), ROI))
    return path


def test_no_call_replaces_the_mask_of_another_scan(bundle: str, tmp_path: Path) -> None:
    """Each scan keeps its name, whatever is predicted between; a copy of it elsewhere is the same scan."""
    scans = [case_file(tmp_path, number) for number in (1, 2)]
    names = []
    for scan in (scans[0], scans[1], scans[0], scans[1]):
        told, _ = predicted(scan, bundle, tmp_path / "out")
        assert not told.failure
        names.append(told.line.split(":")[0].rpartition("/")[2])
    assert names == ["imaging.nii.gz", "case_2.nii.gz"] * 2
    (warning,) = (each for each in predicted(scans[1], bundle, tmp_path / "out")[0].warnings if "was kept" in each)
    assert f"this mask is {tmp_path}/out/case_2.nii.gz" in warning
    copy = tmp_path / "copy" / "imaging.nii"
    write_volume(copy, Volume(image(1), ROI))
    assert predicted(copy, bundle, tmp_path / "out")[0].line.startswith(f"{tmp_path}/out/imaging.nii.gz")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}{end}" for name in ("imaging", "case_2") for end in (".nii.gz", ".json")
    }


@pytest.mark.parametrize("about", [None, "no JSON", "[1]", '{"provenance": 3}', '{"volume_ml": {"kidney": 1.0}}'])
def test_files_without_a_known_scan_are_kept(bundle: str, tmp_path: Path, about: str | None) -> None:
    """The scan itself, where --out is its folder, and masks of earlier versions, which state no scan."""
    scan = case_file(tmp_path, 1)
    before = scan.read_bytes()
    if about:
        scan.with_name("imaging.json").write_text(about)
    assert predicted(scan, bundle, scan.parent)[0].line.startswith(f"{scan.parent}/case_1.nii.gz")
    assert scan.read_bytes() == before
    assert not about or scan.with_name("imaging.json").read_text() == about


def test_a_mask_states_what_it_was_made_from_and_no_patient(bundle: str, tmp_path: Path) -> None:
    write_series(tmp_path / "ct", image(3), ROI, PatientName="EXAMPLENAME", PatientID="EXAMPLEID")
    use = ModelUse(bundle, ("components.min_tumor_ml=0.5",))
    (job,) = list_jobs([tmp_path / "ct"], use, str(tmp_path / "out"))
    assert not predict_scan(job).failure
    content = Path(f"{job.stem}.json").read_text()
    told = storage.read_json(f"{job.stem}.json")["provenance"]
    inference = told.pop("inference")
    assert told == {
        "scan": str(tmp_path / "ct"),
        "scan_sha256": hashlib.sha256(load_scan(tmp_path / "ct")[0].array.astype("<i2").tobytes()).hexdigest(),
        "series": None,
        "phase": None,
        "model": bundle,
        "model_sha256": [hashlib.sha256((Path(bundle) / "model.safetensors").read_bytes()).hexdigest()],
        "localise": load_predictor(bundle).prepare.localise,
        "renalnet": version("renalnet"),
    }
    assert inference["components"]["min_tumor_ml"] == 0.5
    assert "EXAMPLE" not in content


def test_where_all_names_are_of_other_scans_a_part_of_the_checksum_tells_them_apart(tmp_path: Path) -> None:
    for name in ("ct.nii.gz", "p_ct.rtstruct.dcm"):
        (tmp_path / name).touch()
    stems = [str(tmp_path / name) for name in ("ct", "p_ct")]
    digest = "0123456789abcdef" * 4
    assert free_stem(stems, digest) == f"{tmp_path}/ct-01234567"
    (tmp_path / "ct-01234567.dcm").touch()
    with pytest.raises(InputError, match=r"ct\.nii\.gz: holds the mask of another scan; name another folder"):
        free_stem(stems, digest)


def write_odd_series(folder: Path) -> None:
    """Write series whose masks must be written all the same, and one that highdicom refuses."""
    one_word: dict[str, Any] = {"PatientName": "EXAMPLENAME"}
    write_series(folder / "plain", image(1), ROI, **one_word)
    write_series(folder / "thickness", image(2), ROI, SliceThickness=None, **one_word)
    for name in ("turned", "studies", "refused"):
        for number, path in enumerate(write_series(folder / name, image(3), ROI, **one_word)):
            dataset = dcmread(path)
            if name == "turned":
                dataset.ImageOrientationPatient = [1, number * 1e-6, 0, -number * 1e-6, 1, 0]
            elif name == "studies":
                dataset.StudyInstanceUID = f"1.2.3.{number}"
            else:
                dataset.SpecificCharacterSet = "NO SUCH SET"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom names the unknown character set, too
                dataset.save_as(path)


@pytest.mark.slow
def test_no_odd_series_ends_in_a_traceback_or_shows_a_name(
    bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_odd_series(tmp_path / "scans")
    jobs = list_jobs([tmp_path / "scans"], ModelUse(bundle), str(tmp_path / "out"), formats=FORMATS)
    with pytest.raises(Exit) as code:
        print_reports([predict_scan(job) for job in jobs])
    told = capfd.readouterr()
    (error,) = [line for line in told.err.splitlines() if line.startswith("error:")]
    assert code.value.exit_code == 2 and "refused: no DICOM segmentation was written" in error
    assert "EXAMPLENAME" not in told.out + told.err
    assert "studies: slices have 24 values of StudyInstanceUID" in told.err
    assert told.out.count(".nii.gz: kidney") == 5
    for job in jobs:
        mask = read_volume(f"{job.stem}.nii.gz")
        assert "volume_ml" in storage.read_json(f"{job.stem}.json") and mask.array.any()
        assert Path(f"{job.stem}.kidney.stl").exists()
        if "refused" in job.stem:
            assert not Path(f"{job.stem}.dcm").exists()
            continue
        np.testing.assert_array_equal(
            read_segmentation(Path(f"{job.stem}.dcm"), mask.grid, KIDNEY_TUMOR, {}), mask.array
        )
        assert dcmread(f"{job.stem}.rtstruct.dcm").PatientName == "EXAMPLENAME"


def test_formats_of_a_series_are_refused_for_a_file_whose_mask_is_written(bundle: str, tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", Volume(image(4), ROI))
    (job,) = list_jobs([tmp_path / "scan.nii.gz"], ModelUse(bundle), str(tmp_path / "out"), formats=("rtstruct", "stl"))
    told = predict_scan(job)
    assert "scan.nii.gz: no rtstruct was written" in told.failure and "\n" not in told.failure
    assert "scan.nii.gz: kidney" in told.line
    written = {path.name for path in (tmp_path / "out").iterdir()}
    volumes = storage.read_json(f"{job.stem}.json")["volume_ml"]
    surfaces = {f"scan.{label}.stl" for label, volume in volumes.items() if volume}
    assert written == {"scan.nii.gz", "scan.json", *surfaces} and "scan.kidney.stl" in surfaces


def test_formats_are_a_list_with_commas() -> None:
    assert parse_formats(None) is None
    assert parse_formats("stl, rtstruct,stl") == ("rtstruct", "stl")
    assert parse_formats("nifti") == ("nifti",)
    with pytest.raises(ConfigError, match=r"unknown format 'rtstruckt'; did you mean 'rtstruct'\?"):
        parse_formats("stl,rtstruckt")


def test_an_error_without_a_class_of_its_own_stops_no_other_scan(bundle: str, tmp_path: Path) -> None:
    """A mask of another size than its image, as of a fault in a library, is an IndexError or a ValueError there."""
    (tmp_path / "scan.nii.gz").touch()
    (job,) = list_jobs([tmp_path / "scan.nii.gz"], ModelUse(bundle), str(tmp_path / "out"))
    damaged = Volume(np.zeros((2, 3), np.int16), ROI)
    told = predict_scan(job, (damaged, ROI))
    assert "scan.nii.gz: failed with" in told.failure and not told.line
    assert not (tmp_path / "out").exists()


def test_settings_of_the_bundle_can_be_changed(bundle: str) -> None:
    assert load_predictor(bundle).inference.crf.iterations == 0
    changed = load_predictor(bundle, ["stitch.combine=gaussian", "components.min_volume_ml=3"]).inference
    assert (changed.stitch.combine, changed.components.min_volume_ml) == ("gaussian", 3)
    with pytest.raises(ConfigError, match=r"unknown key 'crf\.iteration'"):
        load_predictor(bundle, ["crf.iteration=1"])


def test_a_wide_scan_may_be_an_roi_already_cut(bundle: str, tmp_path: Path) -> None:
    wide = Grid.axis_aligned((16, 60, 60), (6.0, 4.0, 4.0))
    write_volume(tmp_path / "roi.nii.gz", Volume(np.full(wide.shape, 40, np.int16), wide))
    (job,) = list_jobs([tmp_path / "roi.nii.gz"], ModelUse(bundle, ("localise=cut",)), str(tmp_path / "out"))
    report = predict_scan(job)
    assert not report.failure, report
    told = storage.read_json(f"{job.stem}.json")
    assert told["confidence"] is None and told["provenance"]["localise"] == "cut"
    with pytest.raises(ConfigError, match=r"localise = 'no': Input should be 'auto', 'network', 'atlas' or 'cut'"):
        load_predictor(bundle, ["localise=no"])


@pytest.fixture(scope="module")
def abdominal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a bundle of the same network with the atlases of eight phantoms, for whole scans."""
    prepare = PrepareConfig()
    phantom = PhantomConfig(seed=1, contrast="narrow")
    painted = (paint_abdomen(phantom, index) for index in range(8))
    atlases = [make_atlas(f"p{i}", p.image, p.label, prepare, synthetic=True) for i, p in enumerate(painted)]
    return make_bundle(tmp_path_factory.mktemp("abdominal"), atlases)


def predicted(scan: Path, bundle: str, out: Path) -> tuple[ScanReport, ScanJob]:
    (job,) = list_jobs([scan], ModelUse(bundle), str(out))
    return predict_scan(job), job


@pytest.mark.slow
def test_a_real_ct(abdominal: str, real_data: Path, tmp_path: Path) -> None:
    scan = real_data / "ct" / "totalsegmentator" / "example_ct.nii.gz"
    told, job = predicted(scan, abdominal, tmp_path)
    assert not told.failure and storage.read_json(f"{job.stem}.json")["kidneys"].keys() == {"left", "right"}
    mask = nibabel.load(f"{job.stem}.nii.gz")
    ct = nibabel.load(scan)
    assert mask.shape == ct.shape and np.asarray(mask.dataobj).any()
    np.testing.assert_allclose(mask.affine, ct.affine, atol=1e-4)


@pytest.mark.slow
def test_a_real_series_above_the_kidneys(abdominal: str, real_data: Path, tmp_path: Path) -> None:
    """Twenty slices of liver and spleen: the masks are empty, on the scan's grid, and the command would exit with 2."""
    scan = real_data / "ct" / "totalsegmentator" / "example_ct_dicom"
    told, job = predicted(scan, abdominal, tmp_path)
    assert "no kidney found (confidence left 0." in told.failure
    _, source = load_scan(scan)
    mask = read_volume(f"{job.stem}.nii.gz")
    assert grid_difference(mask.grid, source) is None and not mask.array.any()
    assert not read_segmentation(Path(f"{job.stem}.dcm"), source, KIDNEY_TUMOR, {}).any()


def test_an_array_gives_the_mask_of_its_file(bundle: str, tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", Volume(image(), ROI))
    predictor = load_predictor(bundle)
    from_file = predictor.segment_file(tmp_path / "scan.nii.gz")
    from_array = predictor.segment_array(image(), ROI.spacing_mm)
    assert from_file.mask.array.any()
    np.testing.assert_array_equal(from_array.mask.array, from_file.mask.array)
    assert from_array.volume_ml == from_file.volume_ml
    with pytest.raises(InputError, match=r"array of shape \(12, 12\): a CT has three axes"):
        predictor.segment_array(np.zeros((12, 12), np.int16), ROI.spacing_mm)
