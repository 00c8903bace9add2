"""The tables of a report as CSV: what the page shows and what the figures draw."""

from collections.abc import Iterable
from dataclasses import asdict
from statistics import fmean

from renalnet.evaluation.rows import SHOWN_WITHOUT_VOLUMES
from study.records.documents import FinalistEntry
from study.records.tables import Measurement
from study.report.analysis.contents import Report
from study.report.analysis.statistics import Estimate
from study.report.analysis.summary import Standing

Cells = dict[str, object]


def tables_of(report: Report) -> dict[str, list[Cells]]:
    """Rows by name of the table; tables without rows are left out."""
    summary, results = report.summary, report.results
    tables: dict[str, list[Cells]] = {
        "table_one": [_standing(row) for row in summary.standings],
        "appendix": [_standing(row) for row in summary.appendix],
        "selection": [_standing(row) | _spreads(report, row) for row in summary.selection],
        "stages": [_standing(row) for row in summary.stages],
        "classes": _classes(report),
        "differences": _differences(report),
        "detection": _detection(report),
        "patients": _patients(report),
        "patient_dice": _patient_dice(report),
        "rungs": [asdict(row) for row in summary.rungs],
        "importances": [asdict(row) for row in results.importances],
        "quality": [asdict(row) for row in results.qualities],
        "plans": [asdict(row) for row in results.plans],
        "trials": [asdict(row) for row in results.trials or []],
        "repeats": [asdict(row) for row in results.repeats],
        "learning_curves": [asdict(row) for row in results.epochs or []],
    }
    return {name: rows for name, rows in tables.items() if rows}


def _classes(report: Report) -> list[Cells]:
    """Mean measures on the test patients by network and class, the KiTS challenge's among them."""
    kept = [row for row in report.results.measurements or [] if row.split == "test" and row.stage == "final"]
    groups: dict[tuple[str, str, str], list[Measurement]] = {}
    for row in kept:
        groups.setdefault((row.network, row.checkpoint, row.label), []).append(row)
    return [
        {"network": network, "checkpoint": checkpoint, "label": label, "patients": len(rows)}
        | {f"{name}_mean": _mean(rows, name) for name in SHOWN_WITHOUT_VOLUMES}
        for (network, checkpoint, label), rows in groups.items()
    ]


def _mean(rows: Iterable[Measurement], name: str) -> float | None:
    """Return the mean over the cases in which the measure applies; None where there is no such case."""
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    return fmean(values) if values else None


def _standing(row: Standing) -> Cells:
    cells: Cells = {**row.method._asdict(), "stage": row.stage, "patients": row.dice_tumor.num}
    estimates = {
        "dice_kidney": row.dice_kidney,
        "dice_tumor": row.dice_tumor,
        "surface_distance_kidney_px": row.distance_kidney_px,
        "surface_distance_tumor_px": row.distance_tumor_px,
        "dice_tumor_where_present": row.dice_tumor_diseased,
    }
    for name, value in estimates.items():
        cells |= _estimate(name, value)
    paper = row.paper
    return cells | {
        "num_empty_predictions": row.num_empty_predictions,
        "paper_dice_kidney": paper.dice_kidney if paper else None,
        "paper_dice_tumor": paper.dice_tumor if paper else None,
        "paper_distance_kidney_px": paper.distance_kidney_px[0] if paper else None,
        "paper_distance_tumor_px": paper.distance_tumor_px[0] if paper else None,
    }


def _spreads(report: Report, row: Standing) -> Cells:
    """Objectives of a candidate's runs over seeds and on folds."""
    found = report.results.selection.finalists.get(row.method.checkpoint, FinalistEntry())
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
        {"other": margin.other.network, "label": margin.label, **asdict(margin.difference), "p_holm": margin.p_holm}
        for margin in report.summary.margins
    ]


def _detection(report: Report) -> list[Cells]:
    return [
        {
            "network": found.method.network,
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


def _patients(report: Report) -> list[Cells]:
    return [
        {name: value for name, value in asdict(patient).items() if name != "others"}
        for patient in report.summary.patients
    ]


def _patient_dice(report: Report) -> list[Cells]:
    """A row a patient and network: what the figures of patients draw."""
    rows: list[Cells] = []
    for patient in report.summary.patients:
        for network, (kidney, tumor) in patient.dice_by_network.items():
            rows.append(
                {
                    "case": patient.case,
                    "network": network,
                    "tumor_ml": patient.tumor_ml,
                    "dice_kidney": kidney,
                    "dice_tumor": tumor,
                }
            )
    return rows
