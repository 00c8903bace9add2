"""Replayed searches on curves with known values."""

from pathlib import Path

import pytest

from renalnet.errors import ResultsError
from study.bench.search.recorded import Curve, Recorded, read_recorded
from study.bench.search.replay import CURVES, Replay
from study.config.presets import quick
from study.config.sections import SearchConfig, SpaceConfig, StudyConfig
from study.config.space import Choice, Domain, Point, Real, Whole, domains
from study.records.results import Results
from study.search.samplers.unit_cube import unit

SPACE = SpaceConfig(kernel_sets=((1, 2), ()), first_step=(2, 4))


def point(tumor_weight: float, first_step: int = 2) -> Point:
    steps = {"first_step": first_step, "second_gap": 1, "third_gap": 1}
    return {"tumor_weight": tumor_weight, "background_weight": 0.2, "ppm_kernels": "1-2", **steps}


def recorded(*curves: tuple[float, tuple[float, ...]]) -> Recorded:
    """Return one trial per tumor weight and curve; kidney Dice equals tumor Dice."""
    found = tuple(Curve(point(weight), values, values) for weight, values in curves)
    return Recorded(found, domains(SPACE, "fcn_ppm"), epoch_hours=0.5)


def replay(data: Recorded, folder: Path, **search: object) -> Replay:
    config = quick().model_copy(update={"search": SearchConfig.model_validate(search), "space": SPACE})
    return Replay(data, config, Results(str(folder)))


def test_reached_is_that_of_the_best_epoch_so_far() -> None:
    curve = Curve({}, objectives=(0.2, 0.5, 0.4), dice_tumor=(0.1, 0.3, 0.6))
    assert curve.reached == (0.1, 0.3, 0.3)


def test_unit_positions() -> None:
    searched: dict[str, Domain] = {"a": Real(1.0, 100.0), "b": Whole(2, 4), "c": Choice(("x", "y"))}
    assert unit({"a": 10.0, "b": 3, "c": "y"}, searched) == pytest.approx([0.5, 0.5, 0.0, 0.5**0.5])


def test_epochs_are_counted_until_the_aim(tmp_path: Path) -> None:
    """One trial, whose second epoch is within 0.01 of its best."""
    assert replay(recorded((2.0, (0.1, 0.495, 0.5))), tmp_path, sampler="random", scheduler="none").run(1) == 2


def test_every_trial_is_taken_once(tmp_path: Path) -> None:
    """Four bad trials and a good one, of three epochs each, in any order: 1 to 13 epochs, each trial once."""
    data = recorded(*((0.5 + number, (0.1, 0.1, 0.1)) for number in range(4)), (8.0, (0.9, 0.9, 0.9)))
    for seed in range(5):
        config = {"sampler": "random", "scheduler": "none"}
        one = replay(data, tmp_path, **config)
        one.config = one.config.model_copy(update={"seed": seed})
        assert one.run(1) % 3 == 1


def test_pruning_saves_the_rest_of_a_bad_trial(tmp_path: Path) -> None:
    """The first rung is at epoch 3: four trials, each worse than the last, come to it, and only the first passes."""
    values = [(0.5 - number / 10,) * 9 for number in range(4)]
    data = recorded(*((2.0 + number / 10, curve) for number, curve in enumerate(values)), (8.0, (0.1,) * 8 + (0.9,)))
    whole = replay(data, tmp_path, sampler="random", scheduler="none").run(1)
    assert replay(data, tmp_path, sampler="random").run(1) <= whole


def test_the_committed_curves_are_whole() -> None:
    from renalnet.config import merge, read_file

    config: StudyConfig = merge(quick(), read_file(CURVES / "curves.yaml"), "curves")
    data = read_recorded(CURVES, config)
    assert len(data.curves) >= 200 and {len(curve.objectives) for curve in data.curves} == {9}
    assert len({tuple(curve.point.values()) for curve in data.curves}) == len(data.curves)


def test_no_curves_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no recorded study"):
        read_recorded(tmp_path, quick())
