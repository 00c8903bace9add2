"""A damaged file is either refused with a one-line error or read as a valid volume."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from support.dicom_files import Writing, write_segmentation, write_series
from support.mutations import Damaged, damaged_copy, mutate, outcome
from support.slicer_files import segment_pairs, write_seg_nrrd

from renalnet.config import KIDNEY_TUMOR, PrepareConfig
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.images.volume import Grid, Volume, to_itk
from renalnet.data.store.reader import Roi
from renalnet.data.store.writer import write_store
from renalnet.runtime.workers import Workers

GRID = Grid((40, 36, 4), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
DEEP = Grid((40, 48, 50), (0.7, 0.8, 2.0), (-31.5, 12.25, 100.0))
"""Large enough that a lost row of each slice is more than padding."""
NIFTI = {"two.nii": nib.Nifti2Image, "pair.hdr": nib.Nifti1Pair}
IMAGES = ["a.nii", "b.nii.gz", "c.nrrd", "d.mha", "e.nhdr", "f.mhd"]
SERIES = {"plain": Writing(), "rle": Writing(syntax=RLELossless), "jpeg-ls": Writing(syntax=JPEGLSLossless)}
SERIES["jpeg-2000"] = Writing(syntax=JPEG2000Lossless)
CONFIGS = {
    "prepare": "spacing_mm: [1.0, 0.65, 0.65]\nwindow_mm: 97.5\nlocalise: auto\nseed: 3\n",
    "train": "net: {name: fcn_ppm, width: 16}\noptim:\n  base_rate: 0.001\n  milestones: [3, 5, 7]\nepochs: 9\n",
    "splits": "test: [case_00003, case_00007]\nvalidation: [case_00001]\n",
}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> list[Damaged]:
    """Return one undamaged file or folder of each kind, with the way to read it."""
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(0)
    image = Volume(rng.integers(-1024, 2000, GRID.shape).astype(np.int16), GRID)
    found = []
    for name in IMAGES:
        sitk.WriteImage(to_itk(image), str(folder / name), useCompression=name != "a.nii")
        found.append(Damaged("image", folder / name))
    for name, writing in SERIES.items():
        write_series(folder / name, image.array, GRID, writing)
        found.append(Damaged("image", folder / name))
    write_series(folder / "case" / "ct", image.array, GRID)
    masks = {"kidney": rng.random(GRID.shape) > 0.5, "tumor": rng.random(GRID.shape) > 0.8}
    write_segmentation(folder / "case" / "label.dcm", masks, GRID)
    found.append(Damaged("case", folder / "case"))
    found += [Damaged("image", write_nifti(folder / name), DEEP) for name in NIFTI]
    found.append(Damaged("image", write_bare(folder / "bare", image), GRID))
    found.append(Damaged("label", write_label(folder / "label.seg.nrrd")))
    for kind, text in CONFIGS.items():
        (folder / f"{kind}.yaml").write_text(text, encoding="utf-8")
        found.append(Damaged(kind, folder / f"{kind}.yaml"))
    return found


def write_nifti(path: Path) -> Path:
    """Write an image whose sform, qform and voxel sizes state its place."""
    affine = np.diag([-0.7, -0.8, 2.0, 1.0])
    affine[:3, 3] = (31.5, -12.25, 100.0)
    image = NIFTI[path.name](np.random.default_rng(0).integers(-1024, 2000, DEEP.shape).astype(np.int16).T, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def write_bare(folder: Path, image: Volume) -> Path:
    """Write slices without preamble and file meta information."""
    for path in write_series(folder, image.array, image.grid):
        dataset = Dataset({element.tag: element for element in dcmread(path)})
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    return folder


def write_label(path: Path) -> Path:
    label = np.zeros(DEEP.shape, np.uint8)
    label[10:40, 10:40, 10:30] = 2
    label[20:30, 20:30, 5:15] = 1
    return write_seg_nrrd(path, [label], DEEP, segment_pairs(("tumor", 1, 0), ("kidney", 2, 0)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "seed: 2001-99-99",
        "seed: " + "[" * 5000,
        "seed: " + "9" * 6000,
        "seed: !!int x",
        "seed: !!bool x",
        "seed: !!timestamp x",
        "seed: !!python/object:os.system x",
        "window_mm: .inf",
        "window_mm: .nan",
        "? {a: b}\n: c",
    ],
)
def test_yaml_that_no_bit_flip_makes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.yaml").write_text(text, encoding="utf-8")
    assert outcome(Damaged("prepare", tmp_path / "odd.yaml")).startswith("refused: ")


def died(damaged: Damaged, reason: str) -> str:
    return f"fault: the process died of {damaged.path}"


def read_all(jobs: list[Damaged]) -> dict[Damaged, str]:
    """Return the outcome of reading each file in another process, whose stderr the calling test captures."""
    with Workers(1) as workers:
        return dict(zip(jobs, workers.map(outcome, jobs, died), strict=True))


def check(subjects: list[Damaged], seeds: range, folder: Path, capfd: pytest.CaptureFixture[str]) -> Counter[str]:
    jobs = []
    for subject in subjects:
        for seed in seeds:
            place = folder / f"{seed}-{subject.path.name}"
            place.mkdir()
            damaged_copy(subject.path, place, seed)
            jobs.append(replace(subject, path=place / subject.path.name))
    results = read_all(jobs)
    faults = {str(job.path): result for job, result in results.items() if result.startswith("fault")}
    assert not faults
    assert capfd.readouterr().err == ""
    return Counter(result.split(":")[0] for result in results.values())


def test_sound_files_are_read(subjects: list[Damaged]) -> None:
    assert {str(subject.path): outcome(subject) for subject in subjects} == {
        str(subject.path): "read" for subject in subjects
    }


@pytest.mark.slow
def test_a_hundred_damaged_files(subjects: list[Damaged], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    counts = check(subjects, range(8), tmp_path, capfd)
    assert counts["refused"] > counts["read"] > 0


@pytest.mark.slow
def test_a_thousand_damaged_files(subjects: list[Damaged], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    counts = check(subjects, range(8, 84), tmp_path, capfd)
    assert counts["refused"] > counts["read"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NIFTI)
def test_no_bit_of_a_nifti_header_moves_a_volume_in_silence(tmp_path: Path, name: str) -> None:
    sound = Damaged("image", write_nifti(tmp_path / name), DEEP)
    content = bytearray(sound.path.read_bytes())
    results = Counter[str]()
    # Every seventh bit is one of each place in some byte.
    for bit in range(0, 8 * min(len(content), 540), 7):
        content[bit // 8] ^= 1 << bit % 8
        sound.path.write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        result = outcome(sound)
        assert not result.startswith("fault"), f"bit {bit}: {result}"
        results[result.split(":")[0]] += 1
    assert results["refused"] > 40 and results["read"] > 40


@pytest.mark.slow
def test_no_bit_of_a_segmentation_of_3d_slicer_changes_its_labels_in_silence(tmp_path: Path) -> None:
    path = write_label(tmp_path / "label.seg.nrrd")
    expected = read_source_mask(path, KIDNEY_TUMOR).array
    content = bytearray(path.read_bytes())
    # Every third bit is one of each place in some byte.
    for bit in range(0, 8 * (content.index(b"\n\n") + 20), 3):
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        result = outcome(Damaged("label", path))
        assert not result.startswith("fault"), f"bit {bit}: {result}"
        if result == "read":
            np.testing.assert_array_equal(read_source_mask(path, KIDNEY_TUMOR).array, expected, f"bit {bit}")


def check_shards(seeds: range, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    grid = Grid.axis_aligned((4, 6, 5), (1.0, 0.65, 0.65))
    image, label = rng.integers(-1024, 2000, grid.shape).astype(np.int16), rng.integers(0, 3, grid.shape)
    roi = Roi("a", "train", image, label.astype(np.uint8), grid, grid)
    jobs = []
    for seed in seeds:
        store = write_store(folder / str(seed), [roi], PrepareConfig(slab_slices=2))
        files = sorted(Path(store.path).rglob("*.parquet"))
        if mutate(files[seed // 7 % len(files)], seed):
            jobs.append(Damaged("store", Path(store.path)))
    results = read_all(jobs)
    assert jobs
    assert {str(job.path): result for job, result in results.items() if not result.startswith("refused")} == {}
    assert capfd.readouterr().err == ""


def test_any_change_of_a_parquet_file_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_shards(range(21), tmp_path, capfd)


@pytest.mark.slow
def test_many_changes_of_parquet_files_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_shards(range(21, 231), tmp_path, capfd)
