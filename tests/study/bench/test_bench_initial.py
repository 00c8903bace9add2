"""Curves of runs and their comparison, by hand."""

import pytest

from renalnet.train.epochs import EpochRecord
from study.bench.networks.initial import Curve, compared, curve_of


def record(epoch: int, objective: float, seconds: float) -> EpochRecord:
    return EpochRecord(epoch, 1.0, {"kidney": objective}, objective, 0.1, seconds)


def test_a_curve_keeps_the_best_objective_so_far() -> None:
    curve = curve_of([record(1, 0.5, 60.0), record(2, 0.4, 30.0), record(3, 0.7, 90.0)])
    assert curve == Curve(minutes=(1.0, 1.5, 3.0), objective=(0.5, 0.5, 0.7))


def test_runs_are_compared_epoch_by_epoch() -> None:
    ours = [Curve((1.0, 2.0), (0.6, 0.8)), Curve((2.0, 4.0), (0.8, 0.8))]
    theirs = [Curve((1.0, 2.0), (0.2, 0.5)), Curve((1.0, 2.0), (0.4, 0.3))]
    first, last = compared(ours, theirs)
    assert (first.ours, first.theirs) == (pytest.approx(0.7), pytest.approx(0.3))
    assert (last.ours, last.theirs, last.ratio) == (pytest.approx(0.8), pytest.approx(0.4), pytest.approx(2.0))
    assert first.note == "1.5 min; 2 seeds: 0.600 to 0.800 and 0.200 to 0.400"
