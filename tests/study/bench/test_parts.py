"""The ablation: its parts, its choice, its intervals and its cases, by hand; and a tiny one from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR
from renalnet.data.images.volume import Grid, Volume, read_volume, write_volume
from renalnet.data.phantom import COHORT_FILE
from renalnet.data.phantom.label_maps import MAPS_VARIABLE
from renalnet.errors import ConfigError, InputError, ResultsError
from renalnet.evaluation.part_effects import ALL_CASES, read_effects
from renalnet.nets.describe import meta_net
from renalnet.runtime import storage
from study.bench.measuring.size import Size
from study.bench.measuring.table import TABLE
from study.bench.parts import ablation, runs
from study.bench.parts.cases import find_cases
from study.bench.parts.catalogue import (
    FULL,
    REFERENCE,
    VOTE,
    Part,
    Reading,
    all_parts,
    base_config,
    chosen_parts,
    config_of,
    readings_of,
    stitch_of,
)
from study.bench.parts.effects import Cost, Table, choose, difference, effects
from study.bench.parts.runs import Score
from study.bench.parts.traits import Traits, subsets

SPACING_MM = (2.0, 1.95, 1.95)
PARTS = {part.name: part for part in all_parts("anatomy")}


def write_map(path: Path, centre: tuple[int, int, int], *, cyst: bool = False) -> None:
    """Write a kidney of 25 mm radius at the centre of 48×50×50 voxels, and a tumor of 12 mm radius."""
    axes = np.stack(np.meshgrid(*map(np.arange, (48, 50, 50)), indexing="ij"), axis=-1) * SPACING_MM
    array = np.zeros((48, 50, 50), np.uint8)
    array[np.linalg.norm(axes - (48, 48, 48), axis=-1) < 25] = 1
    array[np.linalg.norm(axes - np.array(centre) * SPACING_MM, axis=-1) < 12] = 2
    if cyst:
        array[24, 24, 24] = 3
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(array, Grid.axis_aligned(array.shape, SPACING_MM)))


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    folder = tmp_path / "maps"
    for number, z in enumerate((14, 20, 24, 28, 34)):
        write_map(folder / "train" / f"train_{number}.nii.gz", (z, 30, 24), cyst=number == 0)
    for number, z in enumerate((16, 32)):
        write_map(folder / "test" / f"test_{number}.nii.gz", (z, 24, 30))
    return folder


def test_each_part_is_one_change_of_the_reference() -> None:
    assert set(PARTS) == {
        *(f"pyramid-{kernels}" for kernels in ("none", "1-2-4", "2-4-8", "1-4", "1-2-3-6")),
        *("skip-plain", "dilation-1", "poolings-1", "poolings-3", "weights-balanced", "weights-equal", "slices"),
        *("stitch-mean", "stitch-gaussian", "crf-off", "connectivity-off"),
    }
    size = Size()
    base = config_of(None, 3, size)
    assert base.loss.weights(KIDNEY_TUMOR) == (0.2, 1.0, 2.0)
    for part in PARTS.values():
        config = config_of(part, 3, size)
        changed = {name for name in type(base).model_fields if getattr(config, name) != getattr(base, name)}
        assert changed == set(part.changes)
        assert (part.run == REFERENCE) == (not part.changes)
        assert (config.epochs, config.steps_per_epoch) == (base.epochs, base.steps_per_epoch) == (4, 160)


@pytest.mark.parametrize("preset", ["anatomy", "paper"])
def test_other_poolings_keep_13_blocks_and_reach_as_far(preset: Any) -> None:
    """Kernels and dilations of quarter resolution are 4 voxels of the image, those of half 2 and of an eighth 8."""
    parts = {part.name: part for part in all_parts(preset)}
    size = Size(parts_preset=preset)
    base = base_config(size).net
    for name, voxels in (("poolings-1", 2), ("poolings-3", 8)):
        net = config_of(parts[name], 0, size).net
        assert sum(net.encoder_blocks) + net.num_poolings == 13
        assert max(net.ppm_kernels) * voxels == max(base.ppm_kernels) * 4
        assert max(net.dilations) * voxels == max(base.dilations) * 4
        assert meta_net(net, KIDNEY_TUMOR).num_classes == 3


@pytest.mark.parametrize(
    ("preset", "spacing_mm", "crop", "tile"),
    [("anatomy", 3.0, (16, 32, 32), (21, 50, 50)), ("paper", 0.65, (98, 150, 150), (98, 150, 150))],
)
def test_other_slices_span_as_many_mm(
    preset: Any, spacing_mm: float, crop: tuple[int, ...], tile: tuple[int, ...]
) -> None:
    """24 · 2 mm = 16 · 3 mm, 32 · 2 mm = 64 mm = 21.3 · 3 mm; 64 · 1 mm = 98.5 · 0.65 mm."""
    part = next(part for part in all_parts(preset) if part.name == "slices")
    config = config_of(part, 0, Size(parts_preset=preset))
    assert part.spacing_mm is not None and part.spacing_mm[0] == spacing_mm
    assert (config.patch.shape, config.stitch.tile) == (crop, tile)


def test_balanced_weights_are_inverse_to_the_papers_shares() -> None:
    """0.1693 over 0.8064 and over 0.0243."""
    weights = config_of(PARTS["weights-balanced"], 0, Size()).loss.weights(KIDNEY_TUMOR)
    assert weights == pytest.approx((0.2099, 1.0, 6.967), abs=1e-3)


def test_milestones_are_at_the_papers_shares_of_a_run() -> None:
    milestones = [base_config(Size(parts_epochs=epochs)).optim.milestones for epochs in (1, 4, 9)]
    assert milestones == [(1,), (1, 2, 3), (3, 5, 7)]


def test_the_reference_is_read_in_every_way_that_a_part_needs() -> None:
    without_crf = Reading("vote", ("components",))
    without_components = Reading("vote", ("crf",))
    ways = {VOTE, FULL, Reading("mean"), Reading("gaussian"), without_crf, without_components}
    assert set(readings_of(REFERENCE, list(PARTS.values()))) == ways
    assert readings_of("skip-plain", list(PARTS.values())) == [VOTE]
    stitch = stitch_of(base_config(Size()), Reading("mean"))
    assert (stitch.tile, stitch.stride, stitch.combine) == ((32, 50, 50), (8, 25, 25), "mean")


def test_an_unknown_part_names_the_nearest() -> None:
    assert [part.name for part in chosen_parts(Size(parts_names=("crf-off",)))] == ["crf-off"]
    with pytest.raises(ConfigError, match="unknown part 'crf'; did you mean 'crf-off'"):
        chosen_parts(Size(parts_names=("crf",)))


def test_a_difference_by_hand() -> None:
    """Two seeds and two patients: means over seeds and patients are ½, the least draw is -1 and the largest is 2."""
    found = difference(np.array([[2.0, 0.0], [1.0, -1.0]]))
    assert found.mean == 0.5
    assert (found.low, found.high) == (-1.0, 2.0)
    # Patients that differ by as much make no interval wider; without chance there is none.
    assert difference(np.full((3, 5), 0.25)) == type(found)(0.25, 0.25, 0.25)


def test_an_interval_covers_the_truth() -> None:
    """Effects of seeds and patients add to a true effect of 0; most of 40 intervals hold it."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        paired = 0.1 * generator.standard_normal((8, 1)) + 0.1 * generator.standard_normal((1, 30))
        found = difference(paired + 0.05 * generator.standard_normal((8, 30)))
        held += found.low <= 0 <= found.high
    assert held >= 32


def score(run: str, seed: int, case: str, kidney: float, tumor: float, reading: Reading = VOTE) -> Score:
    return Score(run, seed, reading.name, case, case != "healthy", kidney, tumor, 2.0 if run == REFERENCE else 3.0)


PLAIN = Part("skip-plain", "gradually enhanced features", "plain skips", {"net": {"skip": "plain"}})
NONE = Part("pyramid-none", "pyramid pooling", "none", {"net": {"ppm_kernels": ()}})
COSTS = {name: Cost(0.2, 10.0, 100) for name in ("skip-plain", "pyramid-none")} | {REFERENCE: Cost(0.1, 10.0, 100)}


def scores() -> list[Score]:
    """Return the Dice of a healthy case, and of a case of which tumors gain 0.2 by plain skips and lose 0.1 without."""
    found = []
    for seed in (0, 1):
        for run, tumor in ((REFERENCE, 0.5), ("skip-plain", 0.7), ("pyramid-none", 0.4)):
            found += [score(run, seed, "a", 0.9, tumor), score(run, seed, "healthy", 0.8, 1.0)]
    return found


def test_effects_by_hand() -> None:
    """The objective changes by half of the tumor's change in one of two cases."""
    table = Table(scores())
    chosen = choose(table, [PLAIN, NONE])
    assert chosen == {"gradually enhanced features": "skip-plain", "pyramid pooling": REFERENCE}
    found = list(effects(table, "test", [PLAIN, NONE], {"large": {"a"}, "none": {"healthy"}}, COSTS, chosen))
    assert [(effect.part, effect.cases) for effect in found] == [
        (part, cases) for part in ("skip-plain", "pyramid-none") for cases in (ALL_CASES, "large")
    ]
    first = found[0]
    assert (first.num_patients, first.num_seeds, first.reference_tumor) == (1, 2, 0.5)
    assert (first.tumor, first.tumor_low, first.kidney) == (pytest.approx(0.2), pytest.approx(0.2), 0)
    assert first.objective == pytest.approx(0.05)
    assert found[1].objective == pytest.approx(0.1)
    assert (first.step_s, first.reference_step_s, first.case_s, first.reference_case_s) == (0.2, 0.1, 3.0, 2.0)
    assert [effect.is_chosen for effect in found] == [True, True, False, False]


def test_test_cases_choose_nothing() -> None:
    validation = Table(scores())
    swapped = {REFERENCE: "skip-plain", "skip-plain": REFERENCE, "pyramid-none": "pyramid-none"}
    test = Table([Score(**{**vars(each), "run": swapped[each.run]}) for each in scores()])
    chosen = choose(validation, [PLAIN, NONE])
    plain, *_ = effects(test, "test", [PLAIN, NONE], {}, COSTS, chosen)
    assert plain.objective < 0 and plain.is_chosen


def test_tumors_are_divided_by_size_and_place() -> None:
    found = [Traits("a", 40.0, 1.0, 1), Traits("b", 40.1, 2.0, 2), Traits("c", 70.1, 3.0, 3)]
    groups = {title: sorted(cases) for title, cases in subsets(found).items()}
    assert groups == {
        "tumors up to 40 mm": ["a"],
        "tumors of 40 to 70 mm": ["b"],
        "tumors above 70 mm": ["c"],
        "central tumors": ["a", "b"],
        "peripheral tumors": ["c"],
        "tumors at a pole": ["a"],
        "tumors across a polar line": ["b"],
        "tumors between the polar lines": ["c"],
    }
    assert not any(subsets([]).values())


def test_the_subset_of_maps_is_fixed(maps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = Size(parts_maps=(str(maps),), parts_train=3)
    first = find_cases(size)
    assert (len(first.train), list(first.test)) == (3, ["test_0", "test_1"])
    (maps / "train" / "another.txt").touch()
    assert find_cases(size) == first
    monkeypatch.delenv(MAPS_VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"--set parts_maps=.* in RENALNET_TEST_DATA"):
        find_cases(Size())
    monkeypatch.setenv(MAPS_VARIABLE, str(maps.parent))
    assert find_cases(Size(parts_train=3)) == first


def test_a_work_folder_belongs_to_one_ablation(maps: Path, tmp_path: Path) -> None:
    size = Size(parts_maps=(str(maps),), parts_work=str(tmp_path / "work"))
    found = find_cases(size)
    storage.write_json(tmp_path / "work" / ablation.IDENTITY_FILE, ablation._identity(size, found))
    for change, name in (({"parts_steps": 1}, "parts_steps"), ({"parts_train": 2}, "train")):
        with pytest.raises(ResultsError, match=f"another {name}; set another parts_work"):
            list(ablation.rows(size.model_copy(update=change), tmp_path))


@pytest.mark.slow
def test_a_tiny_ablation_goes_on_where_it_stopped(maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks beside the reference, one on a grid of its own, with a step each; the second call adds a part."""
    monkeypatch.setattr(ablation, "num_cores", lambda: 1)
    monkeypatch.setattr(runs, "num_cores", lambda: 1)
    work = tmp_path / "work"
    size = Size(
        parts_maps=(str(maps),),
        parts_work=str(work),
        parts_names=("slices", "crf-off"),
        parts_seeds=1,
        parts_epochs=1,
        parts_steps=1,
    )
    found = list(ablation.rows(size, tmp_path))
    assert [row.what for row in found] == [
        "distance of slices: slices of 3 mm instead of 2 mm, pixels of 1.95 mm",
        "dense CRF: no dense CRF",
    ]
    assert {path.name for path in (work / "runs").iterdir()} == {"reference-0", "slices-0"}
    assert set(storage.read_json(work / ablation.CHOICE_FILE)) == {"distance of slices", "dense CRF"}
    # The cyst of the first case has become kidney.
    assert set(np.unique(read_volume(work / "maps" / "train" / "train_0.nii.gz").array)) == {0, 1, 2}
    seeds = [storage.read_json(work / "cohort" / split / COHORT_FILE)["config"]["seed"] for split in ("train", "test")]
    assert seeds == [48, 49]
    table = read_effects(tmp_path / TABLE)
    assert {effect.split for effect in table} == {"validation", "test"}
    assert {effect.cases for effect in table if effect.split == "validation"} == {ALL_CASES}
    parameters = meta_net(base_config(size).net, KIDNEY_TUMOR).parameters()
    assert table[0].num_parameters == sum(parameter.numel() for parameter in parameters)

    def refuse(run: runs.Run) -> None:
        raise AssertionError(f"{run} was trained again")

    monkeypatch.setattr(runs, "train", refuse)
    monkeypatch.setattr(ablation, "new_pool", SameProcess)
    for path in (work / "scores").glob("test-*"):
        path.unlink()
    again = list(ablation.rows(size.model_copy(update={"parts_names": ("slices", "stitch-mean")}), tmp_path))
    assert (again[0].ours, again[0].theirs) == (found[0].ours, found[0].theirs)
    assert again[1].what == "stitching: mean of the probabilities"


class SameProcess:
    """A pool that does its jobs in the process of the test."""

    def __enter__(self) -> "SameProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Any, jobs: Any, died: Any = None) -> Any:
        return map(function, jobs)
