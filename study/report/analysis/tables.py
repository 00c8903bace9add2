"""The tables of a report as CSV: what the page shows and what the figures draw."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Final

from renalnet.config import LabelSet
from renalnet.config.label_columns import flat
from renalnet.config.labels import TUMOR
from renalnet.evaluation.rows import SHOWN_WITHOUT_VOLUMES
from study.final.headline import Headline
from study.records.documents import FinalistEntry
from study.records.tables import Effect, Epoch, Importance, InteractionCell, PlanningSheet, Quality, Trial
from study.report.analysis.contents import Report
from study.report.analysis.measures import LabelMeans, label_means
from study.report.analysis.statistics import Estimate
from study.report.analysis.summary import CaseOutcome, Margin, Standing, final_test_rows, lesions_of, tumor_first

if TYPE_CHECKING:
    # `_typeshed` exists for type checkers only, so annotations that use it are strings.
    from _typeshed import DataclassInstance

Cells = dict[str, object]
_DIGITS: Final = 6
"""Significant digits of the numbers in the tables."""


def _columns(row_type: "type[DataclassInstance]", first: Sequence[str], without: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the fields of a row in the order of a CSV file, which differs from that of the Parquet file.

    Fields that are not named here follow at the end, in their order.
    """
    named = {*first, *without}
    return (*first, *(each.name for each in fields(row_type) if each.name not in named))


_IMPORTANCE_COLUMNS: Final = _columns(Importance, first=("network", "parameter", "evaluator", "importance"))
_EFFECT_COLUMNS: Final = _columns(Effect, first=("network", "parameter", "group", "mean_objective", "low", "high"))
_CELL_COLUMNS: Final = _columns(
    InteractionCell,
    first=("network", "first", "second", "first_group", "second_group", "mean_objective", "low", "high"),
)
_QUALITY_COLUMNS: Final = _columns(
    Quality,
    first=(
        "case",
        "split",
        "expected_dice",
        "expected_error",
        "num_known",
        "entropy_bits",
        "expected_dice_tumor",
        "agreement",
    ),
    without=(
        "checkpoint",
        "expected_dice_kidney",
        "kept",
        "tumor_kept",
        "log_kidney_ml",
        "log_tumor_ml",
        "num_tumors",
        "border",
    ),
)
_EPOCH_COLUMNS: Final = _columns(
    Epoch,
    first=(
        "trial",
        "name",
        "network",
        "epoch",
        "loss",
        "dice",
        "objective",
        "learning_rate",
        "seconds",
        "repeat_of",
    ),
    without=("seed", "fold", "data_wait_share", "voxels_per_s"),
)
_SHEET_COLUMNS: Final = _columns(
    PlanningSheet,
    first=(
        "case",
        "source",
        "side",
        "kidney_ml",
        "kidney_length_mm",
        "tumor_ml",
        "num_tumors",
        "other_ml",
        "num_others",
        "remaining_ml",
        "margin_mm",
    ),
    without=("checkpoint",),
)


def tables_of(report: Report) -> dict[str, list[Cells]]:
    """Return the rows of each table by its name; tables without rows are left out."""
    summary = report.summary
    content = report.content
    labels = content.labels
    tables: dict[str, list[Cells]] = {
        "table_one": [_standing(row) for row in summary.standings],
        "appendix": [_standing(row) for row in summary.appendix],
        "selection": [_standing(row) | _spreads(report, row) for row in summary.selection],
        "stages": [_standing(row) for row in summary.stages],
        "classes": [_label_means(row) for row in label_means(final_test_rows(content))],
        "differences": _differences(report),
        "detection": _detection(report),
        "patients": [_outcome(case, labels) for case in summary.cases],
        "patient_dice": [row for case in summary.cases for row in _dice_rows(case, labels)],
        "rungs": [asdict(row) for row in summary.rungs],
        "importances": [flat(row, _IMPORTANCE_COLUMNS) for row in content.importances],
        "effects": [flat(row, _EFFECT_COLUMNS) for row in content.effects],
        "interactions": [flat(row, _CELL_COLUMNS) for row in content.interactions],
        "suggestions": [asdict(row) for row in report.learned.suggestions],
        "quality": [flat(row, _QUALITY_COLUMNS) for row in content.qualities],
        "plans": [_sheet(row) for row in content.plans],
        "trials": [_trial(row, labels) for row in content.trials or []],
        "repeats": [_trial(row, labels) for row in content.repeats],
        "learning_curves": [_epoch(row, labels) for row in content.epochs or []],
    }
    return {name: [readable(row) for row in rows] for name, rows in tables.items() if rows}


def readable(row: Cells) -> Cells:
    """Return the cells of a row of a CSV file, the numbers with as many digits as a reader can use."""
    return {name: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value for name, value in row.items()}


def _trial(row: Trial, labels: LabelSet) -> Cells:
    # A file has no value of a label in the row of a trial that failed, and old files have no column either.
    weights = {name: row.weights.get(name) for name in reversed(labels.class_names)}
    cells = flat(replace(row, dice={name: row.dice.get(name) for name in labels.names}, weights=weights))
    return cells | {"config": _settings(row.config)}


def _settings(text: str) -> str:
    """Return a configuration, given as JSON, as `optim.batch_size=2; seed=0`, the form of `--set`."""
    return "; ".join(_assignments("", json.loads(text))) if text else ""


def _assignments(prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _assignments(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}={value}"


def _sheet(row: PlanningSheet) -> Cells:
    bounds = "; ".join(f"{name} {low:.{_DIGITS}g} to {high:.{_DIGITS}g}" for name, (low, high) in row.bounds.items())
    return flat(row, _SHEET_COLUMNS) | {"spread": bounds}


def _epoch(row: Epoch, labels: LabelSet) -> Cells:
    return flat(replace(row, dice={name: row.dice.get(name) for name in labels.names}), _EPOCH_COLUMNS)


def _label_means(row: LabelMeans) -> Cells:
    about = {"network": row.method.network, "checkpoint": row.method.checkpoint, "label": row.label}
    means = {f"{name}_mean": row.means[name] for name in SHOWN_WITHOUT_VOLUMES}
    return {**about, "patients": row.num_cases, **means}


def _standing(row: Standing) -> Cells:
    cells: Cells = {**row.method._asdict(), "stage": row.stage, "patients": row.num_cases}
    estimates = {
        **{f"dice_{name}": value for name, value in row.dice.items()},
        **{f"surface_distance_{name}_px": value for name, value in row.distance_px.items()},
        **{f"dice_{name}_where_present": value for name, value in row.dice_where_present.items()},
        **{f"surface_distance_{name}_mm": value for name, value in row.distance_mm.items()},
        **{f"surface_distance_{name}_px_where_present": value for name, value in row.px_where_present.items()},
        **{f"surface_distance_{name}_mm_where_present": value for name, value in row.mm_where_present.items()},
    }
    for name, value in estimates.items():
        cells |= _estimate(name, value)
    others = {name: num for name, num in row.empty_predictions.items() if name != TUMOR}
    return cells | {
        "num_empty_predictions": row.num_empty_predictions,
        **{f"num_empty_predictions_{name}": num for name, num in others.items()},
        **_paper(row),
        **{name: value for headline in row.headlines.values() for name, value in _headline(headline).items()},
    }


def _headline(headline: Headline) -> Cells:
    name = headline.lesion.name
    return {
        f"num_with_{name}": headline.num_with,
        f"num_found_{name}": headline.num_found,
        f"num_without_{name}": headline.num_without,
        f"num_false_alarms_{name}": headline.num_alarms,
    }


def _paper(row: Standing) -> Cells:
    paper = row.paper
    return {
        "paper_dice_kidney": paper.dice_kidney if paper else None,
        "paper_dice_tumor": paper.dice_tumor if paper else None,
        "paper_distance_kidney_px": paper.distance_kidney_px[0] if paper else None,
        "paper_distance_tumor_px": paper.distance_tumor_px[0] if paper else None,
    }


def _spreads(report: Report, row: Standing) -> Cells:
    """Return the objectives of a finalist's runs over seeds and on folds."""
    found = report.content.selection.finalists.get(row.method.checkpoint, FinalistEntry())
    spreads = {"over_seeds": found.over_seeds, "over_folds": found.over_folds}
    parts = ("mean", "sd", "num")
    return {
        f"objective_{name}_{part}": getattr(spread, part) if spread else None
        for name, spread in spreads.items()
        for part in parts
    }


def _estimate(name: str, value: Estimate | None) -> Cells:
    parts = ("mean", "sd", "low", "high")
    return {f"{name}_{part}": getattr(value, part) if value else None for part in parts}


def _differences(report: Report) -> list[Cells]:
    return [
        {"other": margin.other.network, "label": margin.label, **asdict(margin.difference), **_corrected(margin)}
        for margin in report.summary.margins
    ]


def _corrected(margin: Margin) -> Cells:
    return {"p_holm": margin.p_holm, "least_p_holm": margin.least_p_holm, "role": margin.other.role}


def _detection(report: Report) -> list[Cells]:
    # Where the tumor is the only lesion, a column of labels would be the same in all rows.
    has_others = len(report.content.labels.lesions) > 1
    return [
        {
            "network": found.method.network,
            **({"label": found.label} if has_others else {}),
            "reading": reading,
            "rate": name,
            "value": rate.value,
            "low": rate.interval.low,
            "high": rate.interval.high,
            "successes": rate.successes,
            "total": rate.total,
        }
        for found in report.detections
        for reading, both in (("voxel", found.voxel), ("patient", found.patient))
        for name, rate in (("sensitivity", both.sensitivity), ("specificity", both.specificity))
    ]


def _outcome(case: CaseOutcome, labels: LabelSet) -> Cells:
    # The Dice of other methods is in `patient_dice`, which has a row for each method.
    cells: Cells = {"case": case.case, "network": case.network}
    for label in tumor_first(labels):
        cells[f"{label.name}_ml"] = case.volume_ml[label.name]
        cells[f"{label.name}_pred_ml"] = case.pred_ml[label.name]
    cells |= {f"dice_{name}": value for name, value in case.dice.items()}
    cells |= {f"distance_{name}_px": value for name, value in case.distance_px.items()}
    cells |= {f"distance_{name}_mm": value for name, value in case.distance_mm.items()}
    cells |= {"has_tumor": case.has_tumor, "found": case.found}
    for lesion in lesions_of(labels)[1:]:
        cells[f"has_{lesion.name}"] = case.present[lesion.name]
        cells[f"found_{lesion.name}"] = case.found_lesions[lesion.name]
    return cells | {"expected_dice": case.expected_dice}


def _dice_rows(case: CaseOutcome, labels: LabelSet) -> list[Cells]:
    """Return one row per method: what the figures of the test cases draw."""
    volumes = {f"{lesion.name}_ml": case.volume_ml[lesion.name] for lesion in lesions_of(labels)}
    return [
        {"case": case.case, "network": network, **volumes, **{f"dice_{name}": value for name, value in dice.items()}}
        for network, dice in case.dice_by_network.items()
    ]
