"""The choice of the post-processing on validation cases with votes made by hand."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from renalnet.config import ComponentsConfig, CrfConfig
from renalnet.data.store.reader import Store
from renalnet.types import LabelArray
from study.config.sections import FinalConfig
from study.final.case_jobs import CompactVote, FinalCase, write_vote
from study.final.post_processing import Scores, choose_post_processing, chosen_from
from study.finalists.finalists import Finalist
from study.records.results import Results

NO_CRF = CrfConfig(iterations=0)


class LocalJobs:
    """Work in this process."""

    def vote(self, *_: Any) -> Iterator[Any]:
        raise AssertionError("the votes are already written")

    def apply(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
        return map(function, jobs)


def kept(store: Store, results: Path, spoil: Callable[[LabelArray], LabelArray], share: float = 0.9) -> list[FinalCase]:
    """Write votes made from the truth of the validation cases; the voted class has `share` of the probability."""
    finalist = Finalist("fcn_ppm", "fcn_ppm-0000", (), "0123abcd")
    folder = Results(str(results))
    names = store.cases("validation")
    cases = [FinalCase(folder, store.path, case, finalist, store.labels) for case in names]
    for case in cases:
        labels = spoil(case.roi().label.copy())
        probability = np.where(np.arange(3)[:, None, None, None] == labels, share, (1 - share) / 2)
        write_vote(case, CompactVote(labels, probability.astype(np.float16)))
    return cases


def specks(labels: LabelArray) -> LabelArray:
    """Add a voxel of tumor inside the kidney, and one far from it."""
    labels[tuple(np.argwhere(labels == 1)[0])] = 2
    labels[0, 0, 0] = 2
    return labels


def test_operations_that_help_are_used(ball_store: Store, tmp_path: Path) -> None:
    cases = kept(ball_store, tmp_path, specks)
    ml = float(np.prod(cases[0].roi().spacing_mm)) / 1000
    chosen = choose_post_processing(cases, FinalConfig(crf=NO_CRF, tuning_trials=1), 0, LocalJobs())
    assert chosen.post_processing.used == {"components"}
    assert chosen.post_processing.sections["components"].min_tumor_ml > ml
    assert chosen.network.tumor < chosen.after["components"].tumor and chosen.warnings == ()
    assert chosen_from(chosen.to_json()) == chosen
    used = chosen.post_processing.used_sections
    assert (used["crf"].iterations, used["components"].enabled) == (0, True)


def test_components_that_lose_a_tumor_are_off(ball_store: Store, tmp_path: Path) -> None:
    def detached(labels: LabelArray) -> LabelArray:
        labels[labels == 1] = 0
        labels[0, :8, :8] = labels[1, :8, :8] = labels[2, :8, :8] = labels[3, :8, :8] = labels[4, :8, :8] = 1
        return labels

    config = FinalConfig(crf=NO_CRF, tuning_trials=0, components=ComponentsConfig(min_volume_ml=1e3))
    chosen = choose_post_processing(kept(ball_store, tmp_path, detached), config, 0, LocalJobs())
    assert chosen.network.tumor == 1 and chosen.after["components"].tumor == 0
    assert "components" not in chosen.post_processing.used
    assert chosen.warnings == ("connectivity is off: validation tumor Dice 1.000 without, 0.000 with it",)
    assert chosen.post_processing.last_stage == "network"


def test_a_crf_that_loses_the_tumor_is_off(ball_store: Store, tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf", reason="the dense CRF is an optional step")
    strong = CrfConfig(smooth_weight=10, smooth_mm=15, bilateral_weight=0)
    config = FinalConfig(crf=strong, tuning_trials=0)
    chosen = choose_post_processing(
        kept(ball_store, tmp_path, lambda labels: labels, share=0.5), config, 0, LocalJobs()
    )
    assert chosen.after["crf"].tumor < chosen.network.tumor == 1
    assert "crf" not in chosen.post_processing.used and chosen.post_processing.sections["crf"] == strong
    assert "the dense CRF is off: validation tumor Dice 1.000 without" in chosen.warnings[0]
    assert chosen.post_processing.used_sections["crf"].iterations == 0
    assert chosen.post_processing.last_stage == "connectivity"


def test_crf_parameters_are_searched_within_bounds_and_repeat_by_seed(ball_store: Store, tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf", reason="the dense CRF is an optional step")
    rng = np.random.default_rng(0)

    def noisy(labels: LabelArray) -> LabelArray:
        wrong = rng.random(labels.shape) < 0.03
        labels[wrong] = rng.integers(0, 3, wrong.sum())
        return labels

    cases = kept(ball_store, tmp_path, noisy, share=0.6)
    config = FinalConfig(tuning_trials=9)
    chosen = choose_post_processing(cases, config, 3, LocalJobs())
    assert chosen == choose_post_processing(cases, config, 3, LocalJobs())
    assert "crf" in chosen.post_processing.used and chosen.after["crf"].objective > chosen.network.objective
    for name, (low, high) in CrfConfig.ranges.items():
        assert low <= getattr(chosen.post_processing.sections["crf"], name) <= high
    CrfConfig.model_validate(chosen.post_processing.sections["crf"].model_dump())
    as_it_is = choose_post_processing(cases, config.model_copy(update={"tuning_trials": 0}), 3, LocalJobs())
    assert chosen.after["crf"].objective >= as_it_is.after["crf"].objective
    assert as_it_is.post_processing.sections["crf"] == config.crf


def test_the_objective_is_the_mean_of_both() -> None:
    assert Scores({"kidney": 0.8, "tumor": 0.4}).objective == pytest.approx(0.6)
