"""What a study found, from its rows: Table I, ablation of the stages, differences, patients, costs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from study.records.tables import Measurement, Quality, Results, Trial
from study.report.analysis.paper import TABLE_ONE, PaperRow
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

TITLES: Final[dict[str, str]] = {
    "pspnet2d": "2D PSPNet",
    "unet3d": "3D U-Net",
    "fcn_ppm": "3D_FCN_PPM",
    "threshold_roi": "Intensity rule, whole ROI",
    "threshold_inside": "Intensity rule, inside true kidney",
}
SHORT_TITLES: Final[dict[str, str]] = {
    **TITLES,
    "threshold_roi": "rule in ROI",
    "threshold_inside": "rule in kidney",
}
STAGES: Final[dict[str, str]] = {
    "network": "network alone",
    "crf": "network + CRF",
    "connectivity": "network + connectivity",
    "crf_connectivity": "network + CRF + connectivity",
    "final": "as settled on validation patients",
}
OURS: Final = "fcn_ppm"
RULE: Final = "rule"
WINNER: Final = "winner"
ADDED: Final = "added"
"""Another program, whose masks were given to the report."""
RIVALS: Final = ("baseline", RULE, ADDED)


class Method(NamedTuple):
    """Who made a set of masks: a network's checkpoint, or an intensity rule."""

    network: str
    checkpoint: str
    role: str

    @property
    def title(self) -> str:
        """The name people read."""
        title = TITLES.get(self.network, self.network)
        return f"{title} ({self.checkpoint})" if self.role == "appendix" else title


@dataclass(frozen=True)
class Standing:
    """A method over the patients of one split after one stage; the columns of the paper's Table I."""

    method: Method
    stage: str
    dice_kidney: Estimate
    dice_tumor: Estimate
    distance_kidney_px: Estimate
    distance_tumor_px: Estimate
    dice_tumor_diseased: Estimate | None
    """Over the patients who have a tumor only, as in the paper's cohort."""
    num_empty_predictions: int
    """Patients with a tumor for whom no tumor was predicted."""

    @property
    def paper(self) -> PaperRow | None:
        """The paper's row of the same network; the appendix has none."""
        return None if self.method.role == "appendix" else TABLE_ONE.get(self.method.network)


@dataclass(frozen=True)
class Margin:
    """The winner minus another method in Dice of one label, on the same test patients."""

    other: Method
    label: str
    difference: Difference
    p_holm: float
    """Corrected for the number of all margins of a report."""


@dataclass(frozen=True)
class CaseOutcome:
    """A test patient under the winner; Dice of the tumor for everyone."""

    case: str
    network: str
    tumor_ml: float
    tumor_pred_ml: float
    kidney_ml: float
    kidney_pred_ml: float
    dice_kidney: float
    dice_tumor: float
    distance_kidney_px: float
    distance_tumor_px: float
    has_tumor: bool
    found: bool | None
    others: dict[str, tuple[float, float]]
    """Dice of (kidney, tumor) by network of the baselines and rules."""
    expected_dice: float | None = None
    """Of the tumor, as the mask's signs let expect without the truth."""

    @property
    def dice_by_network(self) -> dict[str, tuple[float, float]]:
        """Dice of (kidney, tumor) by network, the winner's first."""
        return {self.network: (self.dice_kidney, self.dice_tumor), **self.others}

    @property
    def verdict(self) -> str:
        """What detection made of the patient, in words."""
        if self.has_tumor:
            return "found" if self.found else "missed"
        return "false alarm" if self.tumor_pred_ml > 0 else "healthy, clear"


@dataclass(frozen=True)
class Summary:
    """All that the terminal table and the page say."""

    winner: Trial | None
    is_provisional: bool
    """The winner is only the best trial so far: the final stage has not chosen."""
    standings: list[Standing]
    appendix: list[Standing]
    selection: list[Standing]
    """Finalists on the validation patients, which chose the winner."""
    stages: list[Standing]
    margins: list[Margin]
    patients: list[CaseOutcome]
    trust: Correlation | None
    """Of expected and true tumor Dice over the test patients; None where it is not known."""
    states: dict[str, int]
    """Of the search's trials."""
    repeat_states: dict[str, int]
    """Of the finalists' repeats."""
    hours: Hours
    rungs: list[Rung]
    failed: list[Trial]
    missing: list[str]
    """What is not there yet, in words."""

    @property
    def winner_standing(self) -> Standing | None:
        """The winner's row on the test patients."""
        return next((row for row in self.standings if row.method.role == WINNER), None)

    @property
    def rule_margins(self) -> list[Margin]:
        """The winner's lead in tumor Dice over the intensity rules."""
        return [margin for margin in self.margins if margin.other.role == RULE and margin.label == "tumor"]


def summarise(results: Results, settings: Settings) -> Summary:
    """Aggregate the rows of a results folder; every mean keeps all patients, empty masks included."""
    test = [row for row in results.measurements or [] if row.split == "test"]
    final = [row for row in test if row.stage == "final"]
    validation = [row for row in results.measurements or [] if row.split == "validation" and row.stage == "final"]
    chosen = next((row.checkpoint for row in results.measurements or [] if row.role == WINNER), None)
    standings, patients = standings_of(final, settings), case_outcomes(final, results.qualities)
    return Summary(
        winner=find_winner(results.trials or [], chosen),
        is_provisional=chosen is None,
        standings=[row for row in standings if row.method.role != "appendix"],
        appendix=[row for row in standings if row.method.role == "appendix"],
        selection=_best_first([r for r in standings_of(validation, settings) if r.method.role != RULE]),
        stages=[s for s in standings_of(test, settings) if s.method.role == WINNER],
        margins=margins_of(final, settings),
        patients=patients,
        trust=_trust(patients, settings),
        states=dict(Counter(trial.state for trial in results.trials or [])),
        repeat_states=dict(Counter(repeat.state for repeat in results.repeats)),
        hours=hours_of(results),
        rungs=rungs_of(results.manifest, results.trials or [], results.epochs or []),
        failed=failed_trials(results.trials or []),
        missing=missing_pieces(results),
    )


def standings_of(rows: Iterable[Measurement], settings: Settings) -> list[Standing]:
    """A row for each method and stage, in the order of the paper's table, rules last."""
    groups: dict[tuple[Method, str], list[Measurement]] = {}
    for row in rows:
        groups.setdefault((method_of(row), row.stage), []).append(row)
    found = [_standing(who, stage, group, settings) for (who, stage), group in groups.items()]
    return sorted((row for row in found if row is not None), key=_order)


def method_of(row: Measurement) -> Method:
    """Who made the mask of a row."""
    return Method(row.network, row.checkpoint, row.role)


def method_order(who: Method) -> tuple[int, str]:
    """Sorts methods as the paper's table does, rules last, unknown networks after them."""
    networks = list(TITLES)
    return networks.index(who.network) if who.network in networks else len(networks), who.checkpoint


def _order(row: Standing) -> tuple[int, str, int]:
    stages = list(STAGES)
    return *method_order(row.method), stages.index(row.stage) if row.stage in stages else len(stages)


def _best_first(rows: list[Standing]) -> list[Standing]:
    return sorted(rows, key=lambda row: row.dice_kidney.mean + row.dice_tumor.mean, reverse=True)


def _standing(who: Method, stage: str, rows: Sequence[Measurement], settings: Settings) -> Standing | None:
    kidney = [row for row in rows if row.label == "kidney"]
    tumor = [row for row in rows if row.label == "tumor"]
    dice = [estimate([row.dice for row in label], settings) for label in (kidney, tumor)]
    distance = [estimate([row.surface_distance_px for row in label], settings) for label in (kidney, tumor)]
    if dice[0] is None or dice[1] is None or distance[0] is None or distance[1] is None:
        return None
    diseased = [row for row in tumor if not row.truth_empty]
    return Standing(
        method=who,
        stage=stage,
        dice_kidney=dice[0],
        dice_tumor=dice[1],
        distance_kidney_px=distance[0],
        distance_tumor_px=distance[1],
        dice_tumor_diseased=estimate([row.dice for row in diseased], settings),
        num_empty_predictions=sum(row.pred_empty for row in diseased),
    )


def margins_of(final: Sequence[Measurement], settings: Settings) -> list[Margin]:
    """The winner against each baseline, rule and added program, over the patients that both have."""
    by_method: dict[Method, dict[tuple[str, str], float]] = {}
    for row in final:
        by_method.setdefault(method_of(row), {})[row.case, row.label] = row.dice
    winner = next((scores for who, scores in by_method.items() if who.role == WINNER), {})
    rivals = {who: scores for who, scores in by_method.items() if who.role in RIVALS}
    found = {
        (who, label): difference
        for who, scores in rivals.items()
        for label in ("tumor", "kidney")
        if (difference := _difference(label, winner, scores, settings))
    }
    corrected = holm([difference.p_value for difference in found.values()])
    return [
        Margin(who, label, difference, p)
        for ((who, label), difference), p in zip(found.items(), corrected, strict=True)
    ]


def _difference(
    label: str,
    ours: dict[tuple[str, str], float],
    theirs: dict[tuple[str, str], float],
    settings: Settings,
) -> Difference | None:
    shared = sorted(key for key in ours.keys() & theirs.keys() if key[1] == label)
    if not shared:
        return None
    return paired_difference([ours[key] for key in shared], [theirs[key] for key in shared], settings)


def case_outcomes(final: Iterable[Measurement], qualities: Iterable[Quality] = ()) -> list[CaseOutcome]:
    """Test patients by falling tumor Dice of the winner."""
    expected = {quality.case: quality.expected_dice for quality in qualities if quality.split == "test"}
    cases: dict[str, list[Measurement]] = {}
    for row in final:
        cases.setdefault(row.case, []).append(row)
    found = [_patient(case, rows, expected.get(case)) for case, rows in cases.items()]
    return sorted((row for row in found if row is not None), key=lambda row: (-row.dice_tumor, row.case))


def _patient(case: str, rows: Iterable[Measurement], expected_dice: float | None) -> CaseOutcome | None:
    table = {(row.role == WINNER, row.network, row.label): row for row in rows if row.role != "appendix"}
    ours = {label: row for (is_winner, _, label), row in table.items() if is_winner}
    if not {"kidney", "tumor"} <= ours.keys():
        return None
    kidney, tumor = ours["kidney"], ours["tumor"]
    names = {network for is_winner, network, _ in table if not is_winner}
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


def _trust(patients: Sequence[CaseOutcome], settings: Settings) -> Correlation | None:
    known = [(p.expected_dice, p.dice_tumor) for p in patients if p.expected_dice is not None]
    return correlation([one for one, _ in known], [other for _, other in known], settings)


def find_winner(trials: Iterable[Trial], checkpoint: str | None) -> Trial | None:
    """The trial of the winning checkpoint, or, before the final stage, the best 3D_FCN_PPM trial so far."""
    if checkpoint is not None:
        return next((trial for trial in trials if trial.name == checkpoint), None)
    scored = [trial for trial in trials if trial.network == OURS and trial.objective is not None]
    return max(scored, key=lambda trial: trial.objective or 0.0, default=None)


def missing_pieces(results: Results) -> list[str]:
    """Sentences naming each part of the results that is not there, and what that means."""
    said = []
    if results.trials is None:
        said.append("No trial has been recorded yet (no trials.parquet).")
    if results.epochs is None:
        said.append("No epoch has been reported yet (no curves.parquet), so there are no learning curves.")
    if results.measurements is None:
        said.append(
            "The final stage has not run yet (no final/metrics.parquet): "
            "the winner is not fixed and the test patients have not been read."
        )
    elif all(row.split != "test" for row in results.measurements):
        said.append("The test patients have not been measured yet.")
    if not results.view_cases:
        said.append("There are no pictures of test patients yet (no final/views).")
    if not results.manifest.finished:
        said.append("The study has not finished: its own command resumes it; make this report again afterwards.")
    return said
