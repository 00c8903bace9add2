"""What a study found, computed from its rows: Table I, the stages of inference, differences, cases and costs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from renalnet.config import LabelSet
from renalnet.config.labels import KIDNEY, TUMOR, Label
from renalnet.config.networks import MAIN_NETWORK, PaperRow
from renalnet.inference.post_processing import FINAL
from study.final.headline import Headline, failures, headline_of, winner_rows
from study.records.content import ResultsContent
from study.records.tables import APPENDIX, PAPER, RULE, WINNER, Measurement, Quality, Trial
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
    least_p,
    paired_difference,
)


@dataclass(frozen=True)
class Standing:
    """A method over the cases of one split after one stage of inference; the columns of the paper's Table I."""

    method: Method
    stage: str
    dice: dict[str, Estimate]
    """By label, in the order of the study's label set."""
    distance_px: dict[str, Estimate]
    """Mean distance between true and predicted surface by label, in voxels of the ROI."""
    distance_mm: dict[str, Estimate]
    """The same in mm."""
    dice_where_present: dict[str, Estimate | None]
    """Dice of each lesion over the cases that have it, as in the paper's cohort; None where no case has it."""
    px_where_present: dict[str, Estimate | None]
    """Surface distance of each lesion in voxels of the ROI, likewise."""
    mm_where_present: dict[str, Estimate | None]
    """Surface distance of each lesion in mm, likewise."""
    headlines: dict[str, Headline]
    """Detection and false alarms of each lesion, by its name."""

    @property
    def num_cases(self) -> int:
        """Number of cases of the split."""
        return self.dice[TUMOR].num

    @property
    def shown_dice(self) -> dict[str, Estimate | None]:
        """Dice by label as tables show it: that of a lesion is over the cases that have it."""
        return {**self.dice, **self.dice_where_present}

    @property
    def shown_px(self) -> dict[str, Estimate | None]:
        """Surface distance by label in voxels of the ROI, likewise."""
        return {**self.distance_px, **self.px_where_present}

    @property
    def shown_mm(self) -> dict[str, Estimate | None]:
        """Surface distance by label in mm, likewise."""
        return {**self.distance_mm, **self.mm_where_present}

    @property
    def mean_dice(self) -> float:
        """Mean of the labels' mean Dice, by which the winner is chosen."""
        return sum(value.mean for value in self.dice.values()) / len(self.dice)

    @property
    def empty_predictions(self) -> dict[str, int]:
        """Number of cases with a lesion for which none was predicted, by lesion."""
        return {name: headline.num_empty for name, headline in self.headlines.items()}

    @property
    def num_empty_predictions(self) -> int:
        """Number of cases with a tumor for which no tumor was predicted."""
        return self.empty_predictions[TUMOR]

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
    least_p_holm: float
    """Least value that `p_holm` can take with this number of cases and of margins (`least_p`)."""


@dataclass(frozen=True)
class CaseOutcome:
    """A test case by the winner and the methods that it is compared with.

    Empty masks count as in `renalnet.evaluation.rows`: Dice is 1 where truth and prediction are both empty.
    """

    case: str
    network: str
    """Network of the winner."""
    volume_ml: dict[str, float]
    """True volume by label, in the order of the study's label set."""
    pred_ml: dict[str, float]
    """Volume by label that the winner predicted."""
    dice: dict[str, float]
    """Dice of the winner by label."""
    distance_px: dict[str, float]
    """Mean surface distance of the winner by label, in voxels of the ROI."""
    distance_mm: dict[str, float]
    """The same in mm."""
    present: dict[str, bool]
    """Whether the truth holds a lesion, by lesion."""
    found_lesions: dict[str, bool | None]
    """Whether the winner found a lesion, by lesion; None where there is none."""
    others: dict[str, dict[str, float]]
    """Dice by label, by name of the baselines, rules and programs."""
    expected_dice: float | None = None
    """Dice of the tumor, estimated from the winner's mask without the truth; None where it was not estimated."""

    @property
    def tumor_ml(self) -> float:
        """True volume of the tumor."""
        return self.volume_ml[TUMOR]

    @property
    def kidney_ml(self) -> float:
        """True volume of the kidney."""
        return self.volume_ml[KIDNEY]

    @property
    def dice_tumor(self) -> float:
        """Tumor Dice of the winner."""
        return self.dice[TUMOR]

    @property
    def dice_kidney(self) -> float:
        """Kidney Dice of the winner."""
        return self.dice[KIDNEY]

    @property
    def has_tumor(self) -> bool:
        """Whether the truth holds a tumor."""
        return self.present[TUMOR]

    @property
    def found(self) -> bool | None:
        """Whether the winner found the tumor; None where there is none."""
        return self.found_lesions[TUMOR]

    @property
    def dice_by_network(self) -> dict[str, dict[str, float]]:
        """Dice by label of each method, by its name; the winner is first."""
        return {self.network: self.dice, **self.others}

    def verdict(self, lesion: Label) -> str:
        """Return the outcome of the detection of a lesion for people."""
        if self.present[lesion.name]:
            return "found" if self.found_lesions[lesion.name] else "missed"
        return "false alarm" if self.pred_ml[lesion.name] > 0 else f"no {lesion.title}, none predicted"


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
    failures: list[str]
    """A sentence where the winner finds no tumor or no kidney at all; empty where it finds both."""
    missing: list[str]
    """One sentence for each part of the results that does not exist yet."""

    @property
    def winner_standing(self) -> Standing | None:
        """The winner's row on the test cases."""
        return next((row for row in self.standings if row.method.role == WINNER), None)

    @property
    def is_trust_shown(self) -> bool:
        """Whether the estimated Dice is shown by case: only where it has been shown to rank the masks rightly."""
        return self.trust is not None and self.trust.low > 0

    @property
    def untested_paper(self) -> bool:
        """Whether there is a winner that could not be tested against the paper's values."""
        return bool(self.margins) and not any(margin.other.role == PAPER for margin in self.margins)

    @property
    def rule_margins(self) -> list[Margin]:
        """The winner's tumor Dice minus that of each intensity rule."""
        return [margin for margin in self.margins if margin.other.role == RULE and margin.label == TUMOR]


def summarise(content: ResultsContent, settings: Settings) -> Summary:
    """Return the summary of a results folder; every mean is over all cases, those with empty masks included."""
    trials = content.trials or []
    measurements = content.measurements or []
    labels = content.labels
    final = final_test_rows(content)
    chosen = next((row.checkpoint for row in measurements if row.role == WINNER), None)
    standings = standings_of(final, labels, settings)
    stages = standings_of(_of_test(measurements), labels, settings)
    cases = case_outcomes(final, labels, content.qualities)
    return Summary(
        winner=find_winner(trials, chosen),
        is_provisional=chosen is None,
        standings=[row for row in standings if row.method.role != APPENDIX],
        appendix=[row for row in standings if row.method.role == APPENDIX],
        selection=_selection(measurements, labels, settings),
        stages=[row for row in stages if row.method.role == WINNER],
        margins=margins_of(final, labels, settings),
        cases=cases,
        trust=_trust(cases, settings),
        states=dict(Counter(trial.state for trial in trials)),
        repeat_states=dict(Counter(repeat.state for repeat in content.repeats)),
        hours=hours_of(content.manifest, [*trials, *content.repeats]),
        rungs=rungs_of(content.manifest, trials, content.epochs or []),
        failed=failed_trials(trials),
        failures=failures(winner_rows(measurements), labels),
        missing=missing_pieces(content),
    )


def final_test_rows(content: ResultsContent) -> list[Measurement]:
    """Return the measurements on the test cases after all operations that are used (stage `final`)."""
    return [row for row in _of_test(content.measurements or []) if row.stage == FINAL]


def _of_test(rows: Iterable[Measurement]) -> list[Measurement]:
    return [row for row in rows if row.split == "test"]


def _selection(measurements: Iterable[Measurement], labels: LabelSet, settings: Settings) -> list[Standing]:
    validation = [row for row in measurements if row.split == "validation" and row.stage == FINAL]
    # An intensity rule cannot be a finalist.
    found = [row for row in standings_of(validation, labels, settings) if row.method.role != RULE]
    return sorted(found, key=lambda row: row.mean_dice, reverse=True)


def tumor_first(labels: LabelSet) -> list[Label]:
    """Return the tumor, the kidney, then the other labels by value: the order of what is compared by label."""
    first = [labels.tumor, labels.kidney]
    return [*first, *(label for label in labels.labels if label not in first)]


def lesions_of(labels: LabelSet) -> list[Label]:
    """Return the lesions of the kidney, the tumor first."""
    return [label for label in tumor_first(labels) if label in labels.lesions]


def standings_of(rows: Iterable[Measurement], labels: LabelSet, settings: Settings) -> list[Standing]:
    """Return one standing for each method and stage in the order of the tables.

    A method without rows of every label is left out.
    """
    groups: dict[tuple[Method, str], list[Measurement]] = {}
    for row in rows:
        groups.setdefault((method_of(row), row.stage), []).append(row)
    found = [_standing(method, stage, group, labels, settings) for (method, stage), group in groups.items()]
    return sorted(
        (row for row in found if row is not None), key=lambda row: (method_place(row.method), stage_place(row.stage))
    )


def _standing(
    method: Method, stage: str, rows: Sequence[Measurement], labels: LabelSet, settings: Settings
) -> Standing | None:
    own = {name: [row for row in rows if row.label == name] for name in labels.names}
    if not all(own.values()):
        return None
    diseased = {label.name: [row for row in own[label.name] if not row.truth_empty] for label in lesions_of(labels)}
    return Standing(
        method=method,
        stage=stage,
        dice=_estimates(own, "dice", settings),
        distance_px=_estimates(own, "surface_distance_px", settings),
        distance_mm=_estimates(own, "surface_distance_mm", settings),
        dice_where_present=_estimates_where_present(diseased, "dice", settings),
        px_where_present=_estimates_where_present(diseased, "surface_distance_px", settings),
        mm_where_present=_estimates_where_present(diseased, "surface_distance_mm", settings),
        headlines={lesion.name: headline_of(rows, lesion) for lesion in lesions_of(labels)},
    )


def _estimates(rows: Mapping[str, Sequence[Measurement]], measure: str, settings: Settings) -> dict[str, Estimate]:
    """Return the estimate of a measure for each label that has rows."""
    found = _estimates_where_present(rows, measure, settings)
    return {name: known for name, known in found.items() if known is not None}


def _estimates_where_present(
    rows: Mapping[str, Sequence[Measurement]], measure: str, settings: Settings
) -> dict[str, Estimate | None]:
    """Return the estimate of a measure for each label; None for one without rows."""
    return {name: estimate([getattr(row, measure) for row in some], settings) for name, some in rows.items()}


def margins_of(final: Sequence[Measurement], labels: LabelSet, settings: Settings) -> list[Margin]:
    """Return the margins of the winner over each baseline, rule and program, over the cases that both have.

    The margin of a lesion is over the cases that have it.
    """
    lesions = {label.name for label in lesions_of(labels)}
    by_method: dict[Method, dict[tuple[str, str], float]] = {}
    for row in final:
        # Without the lesion, Dice is 1 or 0 by a false alarm alone, which detection counts.
        if row.label not in lesions or not row.truth_empty:
            by_method.setdefault(method_of(row), {})[row.case, row.label] = row.dice
    winner = next((scores for method, scores in by_method.items() if method.role == WINNER), {})
    found = {
        (method, label.name): difference
        for method, scores in by_method.items()
        if method.role in COMPARED
        for label in tumor_first(labels)
        # A rule never predicts a further label, and each margin lowers the power of the others.
        if method.role != RULE or label in (labels.kidney, labels.tumor)
        if (difference := _difference(label.name, winner, scores, settings))
    }
    corrected = holm([difference.p_value for difference in found.values()])
    return [
        Margin(method, label, difference, p, least_p(difference.num, len(found)))
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


def case_outcomes(
    final: Iterable[Measurement], labels: LabelSet, qualities: Iterable[Quality] = ()
) -> list[CaseOutcome]:
    """Return the test cases by falling tumor Dice of the winner.

    A case without rows of the winner for every label is left out.
    """
    # Validation cases have an estimate as well.
    expected = {quality.case: quality.expected_dice for quality in qualities if quality.split == "test"}
    cases: dict[str, list[Measurement]] = {}
    for row in final:
        cases.setdefault(row.case, []).append(row)
    found = [_outcome(case, rows, labels, expected.get(case)) for case, rows in cases.items()]
    # Equal Dice is common (0, or 1 without a tumor), so the name decides between equals.
    return sorted((row for row in found if row is not None), key=lambda row: (-row.dice_tumor, row.case))


def _outcome(
    case: str, rows: Iterable[Measurement], labels: LabelSet, expected_dice: float | None
) -> CaseOutcome | None:
    # Masks of another program may be missing for a case.
    complete = {key: own for key, own in _by_method(rows).items() if own.keys() >= set(labels.names)}
    ours = next((own for (is_winner, _), own in complete.items() if is_winner), None)
    if ours is None:
        return None
    return CaseOutcome(
        case=case,
        network=ours[TUMOR].network,
        volume_ml={name: ours[name].volume_truth_ml for name in labels.names},
        pred_ml={name: ours[name].volume_pred_ml for name in labels.names},
        dice=_dice(ours, labels),
        distance_px={name: ours[name].surface_distance_px for name in labels.names},
        distance_mm={name: ours[name].surface_distance_mm for name in labels.names},
        present={label.name: not ours[label.name].truth_empty for label in lesions_of(labels)},
        found_lesions={label.name: ours[label.name].found for label in lesions_of(labels)},
        others={name: _dice(complete[False, name], labels) for is_winner, name in sorted(complete) if not is_winner},
        expected_dice=expected_dice,
    )


def _by_method(rows: Iterable[Measurement]) -> dict[tuple[bool, str], dict[str, Measurement]]:
    """Return the rows of a case by label, for each method by whether it is the winner and by its name."""
    found: dict[tuple[bool, str], dict[str, Measurement]] = {}
    for row in rows:
        # Other finalists of the winner's network would replace each other under its name.
        if row.role not in (APPENDIX, PAPER):
            found.setdefault((row.role == WINNER, row.network), {})[row.label] = row
    return found


def _dice(rows: Mapping[str, Measurement], labels: LabelSet) -> dict[str, float]:
    return {name: rows[name].dice for name in labels.names}


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
