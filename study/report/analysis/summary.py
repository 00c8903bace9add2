"""What a study found, computed from its rows: Table I, the stages of inference, differences, cases and costs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from renalnet.config.networks import MAIN_NETWORK, PaperRow
from renalnet.inference.post_processing import FINAL
from study.records.content import ResultsContent
from study.records.tables import APPENDIX, RULE, WINNER, Measurement, Quality, Trial
from study.report.analysis.methods import COMPARED, Method, method_of, method_place, paper_row, stage_place
from study.report.analysis.search import Hours, Rung, failed_trials, hours_of, rungs_of
from study.report.analysis.statistics import (
    Correlation,
    Difference,
    Estimate,
    Settings,
    correlation,
    estimate,
    holm,
    paired_difference,
)


@dataclass(frozen=True)
class Standing:
    """A method over the cases of one split after one stage of inference; the columns of the paper's Table I."""

    method: Method
    stage: str
    dice_kidney: Estimate
    dice_tumor: Estimate
    distance_kidney_px: Estimate
    """Mean distance between true and predicted surface, in voxels of the ROI."""
    distance_tumor_px: Estimate
    dice_tumor_diseased: Estimate | None
    """Dice of the tumor over the cases that have a tumor, as in the paper's cohort; None where no case has one."""
    num_empty_predictions: int
    """Number of cases with a tumor for which no tumor was predicted."""

    @property
    def paper(self) -> PaperRow | None:
        """The paper's row of the same network; None where there is none, and for the appendix."""
        return paper_row(self.method)


@dataclass(frozen=True)
class Margin:
    """Dice of the winner minus Dice of another method, for one label, over the same test cases."""

    other: Method
    label: str
    difference: Difference
    p_holm: float
    """p-value corrected for the number of all margins of the report."""


@dataclass(frozen=True)
class CaseOutcome:
    """A test case by the winner and the methods that it is compared with.

    Empty masks count as in `renalnet.evaluation.rows`: Dice is 1 where truth and prediction are both empty.
    """

    case: str
    network: str
    """Network of the winner."""
    tumor_ml: float
    """True volume."""
    tumor_pred_ml: float
    """Volume predicted by the winner."""
    kidney_ml: float
    kidney_pred_ml: float
    dice_kidney: float
    """Dice of the winner."""
    dice_tumor: float
    distance_kidney_px: float
    """Mean surface distance of the winner, in voxels of the ROI."""
    distance_tumor_px: float
    has_tumor: bool
    """Whether the truth holds a tumor."""
    found: bool | None
    """Whether the winner found the tumor; None where there is none."""
    others: dict[str, tuple[float, float]]
    """Dice of (kidney, tumor) by name of the baselines, rules and programs."""
    expected_dice: float | None = None
    """Dice of the tumor, estimated from the winner's mask without the truth; None where it was not estimated."""

    @property
    def dice_by_network(self) -> dict[str, tuple[float, float]]:
        """Dice of (kidney, tumor) by name, the winner first."""
        return {self.network: (self.dice_kidney, self.dice_tumor), **self.others}

    @property
    def verdict(self) -> str:
        """The outcome of tumor detection for people."""
        if self.has_tumor:
            return "found" if self.found else "missed"
        return "false alarm" if self.tumor_pred_ml > 0 else "no tumor, none predicted"


@dataclass(frozen=True)
class Summary:
    """The numbers of the terminal output and the page."""

    winner: Trial | None
    """Trial of the winner, or the best trial so far; None where there is none or the table of trials lacks it."""
    is_provisional: bool
    """Whether the final stage has not chosen the winner yet, so that it is only the best trial so far."""
    standings: list[Standing]
    """Table I: the methods on the test cases."""
    appendix: list[Standing]
    """Other finalists of the winner's network on the test cases."""
    selection: list[Standing]
    """Finalists on the validation cases, by which the winner was chosen; the best one first."""
    stages: list[Standing]
    """The winner on the test cases after each stage of inference."""
    margins: list[Margin]
    """The winner minus each other method."""
    cases: list[CaseOutcome]
    """Test cases by falling tumor Dice of the winner."""
    trust: Correlation | None
    """Rank correlation of expected and true tumor Dice over the test cases; None where it is not defined."""
    states: dict[str, int]
    """Number of trials of the search by state."""
    repeat_states: dict[str, int]
    """Number of the finalists' repeats by state."""
    hours: Hours
    rungs: list[Rung]
    failed: list[Trial]
    missing: list[str]
    """One sentence for each part of the results that does not exist yet."""

    @property
    def winner_standing(self) -> Standing | None:
        """The winner's row on the test cases."""
        return next((row for row in self.standings if row.method.role == WINNER), None)

    @property
    def rule_margins(self) -> list[Margin]:
        """The winner's tumor Dice minus that of each intensity rule."""
        return [margin for margin in self.margins if margin.other.role == RULE and margin.label == "tumor"]


def summarise(content: ResultsContent, settings: Settings) -> Summary:
    """Return the summary of a results folder; every mean is over all cases, those with empty masks included."""
    trials = content.trials or []
    measurements = content.measurements or []
    final = final_test_rows(content)
    chosen = next((row.checkpoint for row in measurements if row.role == WINNER), None)
    standings = standings_of(final, settings)
    cases = case_outcomes(final, content.qualities)
    return Summary(
        winner=find_winner(trials, chosen),
        is_provisional=chosen is None,
        standings=[row for row in standings if row.method.role != APPENDIX],
        appendix=[row for row in standings if row.method.role == APPENDIX],
        selection=_selection(measurements, settings),
        stages=[row for row in standings_of(_of_test(measurements), settings) if row.method.role == WINNER],
        margins=margins_of(final, settings),
        cases=cases,
        trust=_trust(cases, settings),
        states=dict(Counter(trial.state for trial in trials)),
        repeat_states=dict(Counter(repeat.state for repeat in content.repeats)),
        hours=hours_of(content.manifest, [*trials, *content.repeats]),
        rungs=rungs_of(content.manifest, trials, content.epochs or []),
        failed=failed_trials(trials),
        missing=missing_pieces(content),
    )


def final_test_rows(content: ResultsContent) -> list[Measurement]:
    """Return the measurements on the test cases after all operations that are used (stage `final`)."""
    return [row for row in _of_test(content.measurements or []) if row.stage == FINAL]


def _of_test(rows: Iterable[Measurement]) -> list[Measurement]:
    return [row for row in rows if row.split == "test"]


def _selection(measurements: Iterable[Measurement], settings: Settings) -> list[Standing]:
    validation = [row for row in measurements if row.split == "validation" and row.stage == FINAL]
    # An intensity rule cannot be a finalist.
    found = [row for row in standings_of(validation, settings) if row.method.role != RULE]
    return sorted(found, key=lambda row: row.dice_kidney.mean + row.dice_tumor.mean, reverse=True)


def standings_of(rows: Iterable[Measurement], settings: Settings) -> list[Standing]:
    """Return one standing for each method and stage in the order of the tables.

    A method without rows of both kidney and tumor is left out.
    """
    groups: dict[tuple[Method, str], list[Measurement]] = {}
    for row in rows:
        groups.setdefault((method_of(row), row.stage), []).append(row)
    found = [_standing(method, stage, group, settings) for (method, stage), group in groups.items()]
    return sorted(
        (row for row in found if row is not None), key=lambda row: (method_place(row.method), stage_place(row.stage))
    )


def _standing(method: Method, stage: str, rows: Sequence[Measurement], settings: Settings) -> Standing | None:
    kidney = [row for row in rows if row.label == "kidney"]
    tumor = [row for row in rows if row.label == "tumor"]
    dice = [estimate([row.dice for row in label], settings) for label in (kidney, tumor)]
    distance = [estimate([row.surface_distance_px for row in label], settings) for label in (kidney, tumor)]
    if dice[0] is None or dice[1] is None or distance[0] is None or distance[1] is None:
        return None
    diseased = [row for row in tumor if not row.truth_empty]
    return Standing(
        method=method,
        stage=stage,
        dice_kidney=dice[0],
        dice_tumor=dice[1],
        distance_kidney_px=distance[0],
        distance_tumor_px=distance[1],
        dice_tumor_diseased=estimate([row.dice for row in diseased], settings),
        num_empty_predictions=sum(row.pred_empty for row in diseased),
    )


def margins_of(final: Sequence[Measurement], settings: Settings) -> list[Margin]:
    """Return the margins of the winner over each baseline, rule and program, over the cases that both have."""
    by_method: dict[Method, dict[tuple[str, str], float]] = {}
    for row in final:
        by_method.setdefault(method_of(row), {})[row.case, row.label] = row.dice
    winner = next((scores for method, scores in by_method.items() if method.role == WINNER), {})
    found = {
        (method, label): difference
        for method, scores in by_method.items()
        if method.role in COMPARED
        for label in ("tumor", "kidney")
        if (difference := _difference(label, winner, scores, settings))
    }
    corrected = holm([difference.p_value for difference in found.values()])
    return [
        Margin(method, label, difference, p)
        for ((method, label), difference), p in zip(found.items(), corrected, strict=True)
    ]


def _difference(
    label: str,
    ours: dict[tuple[str, str], float],
    theirs: dict[tuple[str, str], float],
    settings: Settings,
) -> Difference | None:
    # Sorted, because the bootstrap draws by position and the order of a set of strings changes between processes.
    shared = sorted(key for key in ours.keys() & theirs.keys() if key[1] == label)
    if not shared:
        return None
    return paired_difference([ours[key] for key in shared], [theirs[key] for key in shared], settings)


def case_outcomes(final: Iterable[Measurement], qualities: Iterable[Quality] = ()) -> list[CaseOutcome]:
    """Return the test cases by falling tumor Dice of the winner; a case without the winner's rows is left out."""
    # Validation cases have an estimate as well.
    expected = {quality.case: quality.expected_dice for quality in qualities if quality.split == "test"}
    cases: dict[str, list[Measurement]] = {}
    for row in final:
        cases.setdefault(row.case, []).append(row)
    found = [_outcome(case, rows, expected.get(case)) for case, rows in cases.items()]
    # Equal Dice is common (0, or 1 without a tumor), so the name decides between equals.
    return sorted((row for row in found if row is not None), key=lambda row: (-row.dice_tumor, row.case))


def _outcome(case: str, rows: Iterable[Measurement], expected_dice: float | None) -> CaseOutcome | None:
    # Without the appendix, because its finalists share a network and would replace each other under its name.
    table = {(row.role == WINNER, row.network, row.label): row for row in rows if row.role != APPENDIX}
    ours = {label: row for (is_winner, _, label), row in table.items() if is_winner}
    if not {"kidney", "tumor"} <= ours.keys():
        return None
    kidney = ours["kidney"]
    tumor = ours["tumor"]
    names = {network for is_winner, network, _ in table if not is_winner}
    # Masks of another program may be missing for a case.
    complete = [n for n in sorted(names) if (False, n, "kidney") in table and (False, n, "tumor") in table]
    return CaseOutcome(
        case=case,
        network=tumor.network,
        tumor_ml=tumor.volume_truth_ml,
        tumor_pred_ml=tumor.volume_pred_ml,
        kidney_ml=kidney.volume_truth_ml,
        kidney_pred_ml=kidney.volume_pred_ml,
        dice_kidney=kidney.dice,
        dice_tumor=tumor.dice,
        distance_kidney_px=kidney.surface_distance_px,
        distance_tumor_px=tumor.surface_distance_px,
        has_tumor=not tumor.truth_empty,
        found=tumor.found,
        expected_dice=expected_dice,
        others={n: (table[False, n, "kidney"].dice, table[False, n, "tumor"].dice) for n in complete},
    )


def _trust(cases: Iterable[CaseOutcome], settings: Settings) -> Correlation | None:
    known = [(one.expected_dice, one.dice_tumor) for one in cases if one.expected_dice is not None]
    return correlation([expected for expected, _ in known], [true for _, true in known], settings)


def find_winner(trials: Iterable[Trial], finalist: str | None) -> Trial | None:
    """Return the trial of the winning finalist; without a finalist, the best 3D_FCN_PPM trial so far."""
    if finalist is not None:
        return next((trial for trial in trials if trial.name == finalist), None)
    # The winner is always a 3D_FCN_PPM; baselines are only compared with it.
    scored = [trial for trial in trials if trial.network == MAIN_NETWORK and trial.objective is not None]
    return max(scored, key=lambda trial: trial.objective or 0.0, default=None)


def missing_pieces(content: ResultsContent) -> list[str]:
    """Return one sentence for each part of the results that does not exist yet."""
    sentences = []
    if content.trials is None:
        sentences.append("No trial has been recorded yet (no trials.parquet).")
    if content.epochs is None:
        sentences.append("No epoch has been reported yet (no curves.parquet), so there are no learning curves.")
    if content.measurements is None:
        sentences.append(
            "The final stage has not run yet (no final/metrics.parquet): "
            "the winner is not chosen and the test cases have not been read."
        )
    elif not _of_test(content.measurements):
        sentences.append("The test cases have not been measured yet.")
    if not content.view_cases:
        sentences.append("There are no pictures of test cases yet (no final/views).")
    if not content.manifest.finished:
        sentences.append("The study has not finished: run its command again to resume it, then make this report again.")
    return sentences
