from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_results import WINNER, metric_row

from renalnet.config import KIDNEY_TUMOR
from study.final.headline import failures, headline_of, winner_rows
from study.records.content import load_results
from study.records.results import Results
from study.records.tables import Measurement
from study.report.analysis.contents import analyse
from study.report.analysis.detection import detections_of
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import case_outcomes, margins_of, standings_of, summarise
from study.report.pages.number_text import power

SETTINGS = Settings(resamples=200)
HEALTHY = "healthy_1"


def rows_of(case: str, network: str, dice: tuple[float, float], **changes: Any) -> list[Measurement]:
    """Return the kidney and tumor rows of one case."""
    return [
        Measurement(**metric_row(case, network, label, value, **changes))
        for label, value in zip(("kidney", "tumor"), dice, strict=True)
    ]


@pytest.fixture
def two_cases() -> list[Measurement]:
    """The winner and one rule on a case with a tumor and a case without."""
    return [
        *rows_of("case_00001", "fcn_ppm", (0.9, 0.6)),
        *rows_of(HEALTHY, "fcn_ppm", (0.8, 1.0)),
        *rows_of("case_00001", "threshold_roi", (0.2, 0.1)),
        *rows_of(HEALTHY, "threshold_roi", (0.3, 0.0)),
    ]


def test_means_keep_cases_without_a_tumor(two_cases: Sequence[Measurement]) -> None:
    winner, rule = standings_of(two_cases, KIDNEY_TUMOR, SETTINGS)
    assert winner.dice["kidney"].mean == pytest.approx(0.85)
    assert winner.dice["tumor"].mean == pytest.approx(0.8)
    assert winner.distance_px["tumor"].mean == pytest.approx(1.0)  # 5 * (1 - 0.6) and 0
    assert rule.dice["tumor"].mean == pytest.approx(0.05)


def test_cases_with_a_tumor_have_a_mean_of_their_own(two_cases: Sequence[Measurement]) -> None:
    winner = standings_of(two_cases, KIDNEY_TUMOR, SETTINGS)[0]
    diseased = winner.dice_where_present["tumor"]
    assert diseased is not None
    assert (diseased.mean, diseased.num) == (0.6, 1)


def test_a_tumor_without_prediction_is_counted() -> None:
    rows = rows_of("case_00001", "fcn_ppm", (0.9, 0.0), pred_empty=True)
    assert standings_of(rows, KIDNEY_TUMOR, SETTINGS)[0].num_empty_predictions == 1


def test_margins_are_paired(two_cases: Sequence[Measurement]) -> None:
    tumor, kidney = margins_of(two_cases, KIDNEY_TUMOR, SETTINGS)
    assert (tumor.difference.mean, tumor.difference.num) == (pytest.approx(0.5), 1)  # the healthy case has no tumor
    assert kidney.difference.mean == pytest.approx(0.6)  # (0.9 - 0.2 + 0.8 - 0.3) / 2


def test_margins_use_shared_cases_only(two_cases: Sequence[Measurement]) -> None:
    partial = [row for row in two_cases if (row.network, row.case) != ("threshold_roi", HEALTHY)]
    assert [margin.difference.num for margin in margins_of(partial, KIDNEY_TUMOR, SETTINGS)] == [1, 1]


def test_the_least_p_is_known_before_the_test(two_cases: Sequence[Measurement]) -> None:
    """Two comparisons: one case can give no p below 1, two cases none below 2 * 2 / 2**2."""
    tumor, kidney = margins_of(two_cases, KIDNEY_TUMOR, SETTINGS)
    assert (tumor.least_p_holm, kidney.least_p_holm) == (1.0, 1.0)
    assert power([tumor, kidney]).startswith("With 1 to 2 cases and 2 comparisons, no p below 1 is possible after Holm")
    # 2 * 2**(1 - 7) = 0.031
    assert power([tumor, kidney]).endswith("They need at least 7 cases that have the label.")
    assert power([]) == ""


def test_the_papers_values_are_a_method_beside_the_winner(two_cases: Sequence[Measurement]) -> None:
    own = {"role": "paper", "checkpoint": "fcn_ppm-0000"}
    rows = [*two_cases, *rows_of("case_00001", "fcn_ppm", (0.8, 0.7), **own)]
    paper, winner, _ = standings_of(rows, KIDNEY_TUMOR, SETTINGS)
    assert (paper.method.title, winner.method.title) == ("3D_FCN_PPM with the paper’s values", "3D_FCN_PPM")
    tumor = next(margin for margin in margins_of(rows, KIDNEY_TUMOR, SETTINGS) if margin.other.role == "paper")
    assert (tumor.label, tumor.difference.mean) == ("tumor", pytest.approx(-0.1))
    # Figures of cases know a method by its network, of which the winner is the one that is shown.
    assert case_outcomes(rows, KIDNEY_TUMOR)[1].dice_by_network["fcn_ppm"]["tumor"] == 0.6


def test_an_estimate_that_ranks_wrongly_is_not_shown_by_case(finished_study: Path) -> None:
    summary = analyse(Results(str(finished_study)), SETTINGS).summary
    assert summary.trust is not None
    shown = [replace(summary, trust=replace(summary.trust, low=low, high=0.9)) for low in (-0.9, 0.0, 0.1)]
    assert [one.is_trust_shown for one in shown] == [False, False, True]
    assert not replace(summary, trust=None).is_trust_shown


def test_a_winner_that_finds_nothing_is_a_failed_study(two_cases: Sequence[Measurement]) -> None:
    assert failures(winner_rows(two_cases), KIDNEY_TUMOR) == []
    blind = [replace(row, found=False, dice=0.0) if row.case != HEALTHY else row for row in two_cases]
    no_tumor, no_kidney = failures(winner_rows([replace(row, dice=0.0) for row in blind]), KIDNEY_TUMOR)
    assert "it found none of the 1 tumors of the test cases (Dice 0.000); do not use best/" in no_tumor
    assert "it found none of the 2 kidneys" in no_kidney
    assert "tumors" in failures(winner_rows([row for row in blind if row.label == "tumor"]), KIDNEY_TUMOR)[0]


def test_the_headline_by_hand() -> None:
    """Two of three tumors are found, one of them is not predicted at all, and one of two healthy cases is an alarm."""
    rows = [
        *rows_of("case_00001", "fcn_ppm", (0.9, 0.6)),
        *rows_of("case_00002", "fcn_ppm", (0.9, 0.3)),
        *rows_of("case_00003", "fcn_ppm", (0.9, 0.0), pred_empty=True),
        *rows_of(HEALTHY, "fcn_ppm", (0.8, 1.0)),
        *rows_of("healthy_2", "fcn_ppm", (0.8, 0.0)),
    ]
    assert headline_of(rows, KIDNEY_TUMOR.tumor).text == (
        "Dice tumor 0.300 over the 3 test cases with a tumor; found in 2 of 3, none predicted in 1; false alarms in 1 "
        "of 2 without one"
    )
    assert headline_of(rows[6:], KIDNEY_TUMOR.tumor).text == (
        "no test case has a tumor, so nothing is known of how it is found; false alarms in 1 of 2 without one"
    )
    only = headline_of(rows[:2], KIDNEY_TUMOR.tumor).text
    assert only.startswith("Dice tumor 0.600 over the test case with a tumor;")
    assert only.endswith("false alarms are not known, since every test case has one")


def test_verdicts(two_cases: Sequence[Measurement]) -> None:
    alarm = [replace(row, volume_pred_ml=3.0) if row.case == HEALTHY else row for row in two_cases]
    missed = [replace(row, found=False) if row.case != HEALTHY else row for row in two_cases]
    assert verdicts(two_cases) == ["no tumor, none predicted", "found"]
    assert verdicts(alarm) == ["false alarm", "found"]
    assert verdicts(missed) == ["no tumor, none predicted", "missed"]


def verdicts(rows: Sequence[Measurement]) -> list[str]:
    return [case.verdict(KIDNEY_TUMOR.tumor) for case in case_outcomes(rows, KIDNEY_TUMOR)]


def test_detection_by_voxel_and_patient(two_cases: Sequence[Measurement]) -> None:
    winner, rule = detections_of(two_cases, KIDNEY_TUMOR, SETTINGS)
    assert winner.voxel.sensitivity.value == pytest.approx(600 / 1000)
    assert winner.voxel.specificity.value == pytest.approx(40000 / 40050)
    assert (winner.patient.sensitivity.successes, winner.patient.sensitivity.total) == (1, 1)
    assert (rule.patient.specificity.successes, rule.patient.specificity.total) == (0, 1)


def test_table_one_has_the_papers_order_and_numbers(finished_study: Path) -> None:
    standings = analyse(Results(str(finished_study)), SETTINGS).summary.standings
    networks = [row.method.network for row in standings]
    assert networks == ["pspnet2d", "unet3d", "fcn_ppm", "threshold_roi", "threshold_inside"]
    assert [row.paper.dice_tumor for row in standings if row.paper] == [0.638, 0.751, 0.779]


def test_stages_come_in_order(finished_study: Path) -> None:
    stages = analyse(Results(str(finished_study)), SETTINGS).summary.stages
    assert [row.stage for row in stages] == ["network", "crf", "final"]
    assert stages[0].dice["kidney"].mean == pytest.approx(stages[2].dice["kidney"].mean - 0.05)


def test_appendix_and_selection_stay_out_of_table_one(finished_study: Path) -> None:
    summary = analyse(Results(str(finished_study)), SETTINGS).summary
    assert [row.method.checkpoint for row in summary.appendix] == ["fcn_ppm-0000"]
    assert [row.method.checkpoint for row in summary.selection] == [WINNER, "fcn_ppm-0000"]


def test_costs_and_states_add_up(finished_study: Path) -> None:
    summary = analyse(Results(str(finished_study)), SETTINGS).summary
    assert summary.states == {"complete": 5, "pruned": 2, "failed": 1}
    assert summary.hours.cpu == pytest.approx(2.0)  # eight trials of a quarter of an hour
    assert summary.hours.wall == pytest.approx(453.5 / 3600)


def test_before_the_final_stage_the_winner_is_provisional(running_study: Path) -> None:
    summary = summarise(load_results(Results(str(running_study))), SETTINGS)
    assert summary.winner is not None
    assert (summary.winner.name, summary.is_provisional) == (WINNER, True)
    assert any("final stage has not run" in sentence for sentence in summary.missing)


def test_nothing_is_missing_from_a_finished_study(finished_study: Path) -> None:
    assert summarise(load_results(Results(str(finished_study))), SETTINGS).missing == []
