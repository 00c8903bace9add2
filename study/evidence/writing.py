"""The files of the evidence: CSV tables, the same numbers as Markdown, figures and a manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from renalnet.evaluation.detection import Rate
from renalnet.runtime.csv_text import to_csv
from renalnet.runtime.durations import duration_words
from renalnet.runtime.storage import write_bytes, write_json
from study.evidence.analysis import ANNOTATORS, Evidence
from study.evidence.figures import paper_figures, png_within
from study.evidence.generalisation import correlation_of, enough_cases
from study.evidence.groups import LARGE_ML, GroupResult
from study.evidence.regions import REGIONS
from study.report.analysis.methods import title_of
from study.report.analysis.statistics import Estimate
from study.report.analysis.tables import Cells, readable, tables_of
from study.report.pages.formats import markdown_table
from study.report.pages.number_text import interval, mean_sd, number, p_value, signed

_OF_REPORT: Final = (
    "table_one",
    "differences",
    "detection",
    "patients",
    "patient_dice",
    "selection",
    "stages",
    "trials",
    "repeats",
    "quality",
    "plans",
)
"""Tables of the report that are kept."""
TEXT_FILE: Final = "tables.md"
MANIFEST_FILE: Final = "manifest.json"


def write_evidence(evidence: Evidence, manifest: Mapping[str, Any], folder: Path) -> None:
    """Write all files of the evidence into a folder, which may be new. The manifest is written last."""
    for name, rows in evidence_tables(evidence).items():
        write_bytes(folder / f"{name}.csv", to_csv([readable(row) for row in rows]))
    write_bytes(folder / TEXT_FILE, evidence_text(evidence, manifest).encode())
    for name, figure in paper_figures(evidence.report).items():
        write_bytes(folder / f"{name}.png", png_within(figure))
    write_json(folder / MANIFEST_FILE, manifest)


def evidence_tables(evidence: Evidence) -> dict[str, list[Cells]]:
    """Return the rows of each table by its name; tables without rows are left out."""
    of_report = tables_of(evidence.report)
    tables: dict[str, list[Cells]] = {
        **{name: of_report[name] for name in _OF_REPORT if name in of_report},
        "collections": [_group_cells(row) for row in evidence.collections],
        "by_volume": [_group_cells(row) for row in evidence.volumes],
        "by_contrast": [_group_cells(row) for row in evidence.contrasts],
        "by_region": _region_cells(evidence),
        "ranks": [asdict(row) for row in evidence.ranks],
        "optimism": [asdict(row) for row in evidence.optimisms],
        "validation_cases": [asdict(row) for row in evidence.choices],
        "inside_rule": [{"split": split, "dice_tumor": dice} for split, dice in evidence.inside_rule.items()],
        "annotators": [asdict(row) for row in ANNOTATORS],
    }
    return {name: rows for name, rows in tables.items() if rows}


def _group_cells(row: GroupResult) -> Cells:
    rates = {
        "sensitivity": row.sensitivity,
        f"sensitivity_{LARGE_ML:g}ml": row.sensitivity_large,
        "specificity": row.specificity,
    }
    return {
        "group": row.group,
        **row.method._asdict(),
        "patients": row.num_cases,
        **_estimate_cells("dice_tumor", row.dice_tumor),
        **_estimate_cells("dice_kidney", row.dice_kidney),
        **{
            f"{name}{end}": value
            for name, rate in rates.items()
            for end, value in {
                "": rate.value,
                "_low": rate.interval.low,
                "_high": rate.interval.high,
                "_successes": rate.successes,
                "_total": rate.total,
            }.items()
        },
    }


def _estimate_cells(name: str, value: Estimate | None) -> Cells:
    return {f"{name}_{part}": getattr(value, part) if value else None for part in ("mean", "sd", "low", "high", "num")}


def _region_cells(evidence: Evidence) -> list[Cells]:
    totals_ml = {
        method: sum(errors.error_ml for (other, _), errors in evidence.regions.items() if other == method)
        for method, _ in evidence.regions
    }
    return [
        {
            "network": method,
            "region": region,
            **asdict(errors),
            "errors_per_volume": errors.error_ml / errors.region_ml if errors.region_ml else None,
            "share_of_errors": errors.error_ml / totals_ml[method] if totals_ml[method] else None,
        }
        for (method, region), errors in evidence.regions.items()
    ]


def evidence_text(evidence: Evidence, manifest: Mapping[str, Any]) -> str:
    """Return the tables for people, as Markdown."""
    parts = [
        ("The methods, by collection of label maps", _collection_lines(evidence)),
        ("3D_FCN_PPM minus the others, all test patients", _margin_lines(evidence)),
        ("Agreement of people, published", _annotator_lines()),
        ("One threshold inside the true region, chosen in hindsight", _inside_lines(evidence)),
        ("Errors by region", _region_lines(evidence)),
        ("By volume of the tumor", _lesion_lines(evidence.volumes)),
        ("By contrast of tumor and kidney", _lesion_lines(evidence.contrasts)),
        ("Finalists on validation and test patients", _rank_lines(evidence)),
        ("Gain of tumor Dice by post-processing tuned on validation patients", _optimism_lines(evidence)),
        ("Choice of the finalist on fewer validation patients", _choice_lines(evidence)),
        ("What it took", _cost_lines(manifest)),
    ]
    return "\n".join(line for title, lines in parts if lines for line in (f"**{title}**", "", *lines, ""))


def _collection_lines(evidence: Evidence) -> list[str]:
    rows = [
        [
            row.group,
            str(row.num_cases),
            row.method.title,
            mean_sd(row.dice_tumor),
            mean_sd(row.dice_kidney),
            *map(_counted, (row.sensitivity, row.sensitivity_large, row.specificity)),
        ]
        for row in evidence.collections
    ]
    found = ["found", f"found, {LARGE_ML:g} ml and more", "no false alarm"]
    return markdown_table(["patients", "n", "method", "Dice tumor", "Dice kidney", *found], rows)


def _lesion_lines(groups: Sequence[GroupResult]) -> list[str]:
    """Return the lines of groups in which each patient has a tumor."""
    rows = [
        [row.group, str(row.num_cases), row.method.title, mean_sd(row.dice_tumor), _counted(row.sensitivity)]
        for row in groups
    ]
    return markdown_table(["tumors", "n", "method", "Dice tumor", "found"], rows) if rows else []


def _counted(rate: Rate) -> str:
    return f"{rate.successes} of {rate.total}"


def _margin_lines(evidence: Evidence) -> list[str]:
    rows = [
        [
            margin.other.title,
            margin.label,
            signed(margin.difference),
            str(margin.difference.num),
            p_value(margin.p_holm),
        ]
        for margin in evidence.report.summary.margins
    ]
    return markdown_table(["minus", "label", "Dice (interval)", "n", "p, Holm"], rows) if rows else []


def _annotator_lines() -> list[str]:
    rows = [[row.measure, row.kidney, row.tumor, row.readers, row.source] for row in ANNOTATORS]
    return markdown_table(["measure", "kidney", "tumor", "readers", "source"], rows)


def _inside_lines(evidence: Evidence) -> list[str]:
    return markdown_table(
        ["fitted to and measured on", "Dice tumor"],
        [[f"{split} patients", number(dice)] for split, dice in evidence.inside_rule.items()],
    )


def _region_lines(evidence: Evidence) -> list[str]:
    cells = {(row["network"], row["region"]): row for row in _region_cells(evidence)}
    methods = dict.fromkeys(method for method, _ in evidence.regions)
    rows = [
        [title_of(method), *(f"{cells[method, region]['share_of_errors'] or 0:.1%}" for region in REGIONS)]
        for method in methods
    ]
    heads = ["share of the wrong voxels", *(region.replace("_", " ") for region in REGIONS)]
    return markdown_table(heads, rows) if rows else []


def _rank_lines(evidence: Evidence) -> list[str]:
    rows = [
        [row.finalist, number(row.validation), number(row.test), str(row.validation_rank), str(row.test_rank)]
        for row in evidence.ranks
    ]
    heads = ["finalist", "mean Dice, validation", "mean Dice, test", "rank, validation", "rank, test"]
    correlation = f"Rank correlation over the finalists: {number(correlation_of(evidence.ranks), 2)}."
    return [*markdown_table(heads, rows), "", correlation] if rows else []


def _optimism_lines(evidence: Evidence) -> list[str]:
    rows = [
        [
            row.finalist,
            f"{row.validation_gain:+.3f}",
            f"{row.test_gain:+.3f}",
            f"{row.optimism:+.3f} ({interval(row.low, row.high)})",
        ]
        for row in evidence.optimisms
    ]
    heads = ["finalist", "gain, validation", "gain, test", "optimism (interval)"]
    return markdown_table(heads, rows) if rows else []


def _choice_lines(evidence: Evidence) -> list[str]:
    rows = [
        [str(row.num_cases), f"{row.agreement:.0%}", number(row.mean_loss), number(row.mean_correlation, 2)]
        for row in evidence.choices
    ]
    heads = ["validation patients", "same choice", "mean loss of test Dice", "rank correlation with test"]
    enough = (
        f"From {enough_cases(evidence.choices)} validation patients on, more of them do not change the choice much."
    )
    return [*markdown_table(heads, rows), "", enough] if rows else []


def _cost_lines(manifest: Mapping[str, Any]) -> list[str]:
    of_study = {f"study: {name}": seconds for name, seconds in manifest["durations_of_study_s"].items()}
    stages = {**manifest["durations_s"], **of_study}
    durations = [[name, duration_words(seconds or 0.0)] for name, seconds in stages.items()]
    hours = [[f"{device}-hours of trials and repeats", number(value, 2)] for device, value in manifest["hours"].items()]
    memory = [["peak memory of all processes", f"{manifest['peak_memory_mb']:.0f} MB"]]
    return markdown_table(["", ""], [*durations, *hours, *memory])
