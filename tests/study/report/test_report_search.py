"""Rungs, hours and failures of the search, by hand and against scipy."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from study.records.documents import Manifest
from study.records.tables import Epoch, Trial
from study.report import Report
from study.report.analysis.search import Rung, rungs_of
from study.report.analysis.statistics import rank_correlation
from study.search.rungs import rung_ages, saved_by_pruning

MANIFEST = Manifest(config={"search": {"grace_epochs": 1, "reduction_factor": 2}})


def curves(*values: Sequence[float], state: str = "complete") -> tuple[list[Trial], list[Epoch]]:
    trials = [Trial(n, f"net-{n}", "net", state) for n in range(len(values))]
    epochs = [
        Epoch(trial=n, name=f"net-{n}", network="net", epoch=epoch, objective=value)
        for n, curve in enumerate(values)
        for epoch, value in enumerate(curve, start=1)
    ]
    return trials, epochs


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 1 - 6 * 4 / (5 * 24)),  # squared differences of ranks: 1, 1, 1, 1, 0
        ([1, 1, 2], [1, 2, 3], np.sqrt(3) / 2),  # ranks 1.5, 1.5, 3
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [1], None),
        ([], [], None),
    ],
)
def test_rank_correlation_by_hand(first: list[float], second: list[float], expected: float | None) -> None:
    assert rank_correlation(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("num_levels", [5, 1000])
def test_rank_correlation_is_scipys(num_levels: int) -> None:
    first, second = np.random.default_rng(1).integers(0, num_levels, (2, 40)).astype(float)
    expected = float(stats.spearmanr(first, second).statistic)
    assert rank_correlation(list(first), list(second)) == pytest.approx(expected)


def test_a_rung_ranks_best_epochs_so_far() -> None:
    trials, epochs = curves([0.5, 0.1, 0.5], [0.2, 0.6, 0.6], [0.1, 0.3, 0.9])
    assert rungs_of(MANIFEST, trials, epochs) == [
        Rung("net", 1, pytest.approx(-1.0), 3),
        Rung("net", 2, pytest.approx(-0.5), 3),  # ranks 2, 3, 1 of 0.5, 0.6, 0.3 against 1, 2, 3
    ]


def test_pruned_trials_and_lonely_ones_have_no_rung() -> None:
    pruned, curve = curves([0.5, 0.1, 0.5], [0.2, 0.6, 0.6], state="pruned")
    assert rungs_of(MANIFEST, pruned, curve) == []
    assert rungs_of(MANIFEST, *curves([0.5, 0.1])) == []
    assert rungs_of(Manifest(), *curves([0.5, 0.1], [0.1, 0.5])) == []


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "first_step", "rungs"),
    [
        (3, 3, 27, 0, [3, 9]),
        (3, 3, 28, 0, [3, 9, 27]),
        (9, 3, 9, 0, []),
        (1, 2, 5, 0, [1, 2, 4]),
        (1, 2, 9, 4, [1, 2, 4]),
    ],
)
def test_rungs_lie_before_the_end(grace: int, factor: int, epochs: int, first_step: int, rungs: list[int]) -> None:
    assert rung_ages(grace, factor, epochs, first_step) == rungs


def test_rungs_count_from_each_trials_own_milestone() -> None:
    """The first milestones are 1 and 2. At age 1 the best objectives are 0.5 and 0.4, in the end 0.5 and 0.9."""
    trials, epochs = curves([0.1, 0.5, 0.2], [0.3, 0.1, 0.4, 0.9])
    dropping = [replace(trial, milestones=own) for trial, own in zip(trials, ("1-2-3", "2-3-4"), strict=True)]
    assert rungs_of(MANIFEST, dropping, epochs) == [Rung("net", 1, pytest.approx(-1.0), 2)]


def test_pruning_saves_missing_epochs() -> None:
    assert saved_by_pruning(2.0, num_epochs=4, planned_epochs=9) == 2.5
    assert saved_by_pruning(2.0, num_epochs=0, planned_epochs=9) == 0.0


def test_hours_saved_are_those_of_pruned_trials(written: Report) -> None:
    hours = written.summary.hours
    assert hours.cpu_saved == pytest.approx(0.25 / 3 * 6 + 0.25 * 8)  # after 3 and after 1 of 9 epochs
    assert hours.gpu_saved == 0


def test_the_page_shows_rungs_and_failures(page: str) -> None:
    assert 'id="rungs"' in page
    assert "<dt>fcn_ppm-0004</dt><dd>RuntimeError: &lt;i&gt;out of memory&lt;/i&gt;</dd>" in page
    assert "2.50 CPU saved by pruning" in page
