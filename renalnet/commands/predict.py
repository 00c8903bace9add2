"""`renalnet predict`: a mask for each scan."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from renalnet.commands.line import USER_ERROR
from renalnet.commands.options import BackendOption, Bundle, Formats, Inference, Phase, PredictOut, Scans, Series
from renalnet.config.training import PACKAGED
from renalnet.runtime.machine import num_threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from renalnet.prediction.scan_jobs import ScanReport


def predict(
    scans: Scans,
    out: PredictOut,
    model: Bundle = PACKAGED,
    series: Series = None,
    phase: Phase = None,
    format_: Formats = None,
    set_: Inference = None,
    backend: BackendOption = "auto",
) -> None:
    """Segment scans: write a mask on each scan's own grid, and a JSON file about it.

    The JSON file has the volumes, the confidence that each kidney was found, the expected quality, and the provenance.
    For a DICOM series, a DICOM segmentation (.dcm) is written too. It has the patient and study of the series, so that
    a PACS can file it. --format chooses other formats. A kidney that is not found with confidence is left out, and a
    warning names it. A scan that fails does not stop the others. All failures are printed at the end, and the exit code
    is then 2.
    """
    import torch

    from renalnet.prediction.formats import parse_formats
    from renalnet.prediction.scan_jobs import ModelUse, list_jobs, lost_scan, predict_scan, read_scan
    from renalnet.runtime.workers import Workers

    torch.set_num_threads(num_threads())
    formats = parse_formats(format_)
    use = ModelUse(model, tuple(set_ or []), backend)
    jobs = list_jobs(scans, use, out, series=series, phase=phase, formats=formats)
    use.load()  # a wrong model bundle is an error before any scan is read
    print_packaged(model)
    with Workers(1) as reader:  # a CT that crashes its reader ends only this process; it also reads the next CT ahead
        print_reports(map(predict_scan, jobs, reader.map(read_scan, jobs, lost_scan)))


def print_packaged(model: str) -> None:
    """Print what the packaged bundle is, where `model` names it."""
    from renalnet.nets.packaged import packaged_bundle

    if model == PACKAGED:
        name = Path(packaged_bundle()).name
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"model: '{name}', which ships with renalnet. It was trained on painted phantoms alone, on no scan of a "
            "patient; --model names another one.",
            markup=False,
        )


def print_reports(reports: "Iterable[ScanReport]") -> None:
    """Print the result of each scan, then the failures. Raises typer.Exit with code 2 if a scan failed."""
    # A path may hold square brackets, which rich reads as markup, and a wrapped path cannot be copied.
    console = Console(soft_wrap=True, highlight=False)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    failures = []
    for report in reports:
        if report.failure:
            failures.append(report.failure)
        if report.line:
            console.print(report.line, markup=False)
        for warning in report.warnings:
            errors.print(f"warning: {warning}", markup=False)
    for failure in failures:
        errors.print(f"error: {failure}", markup=False)
    if failures:
        raise typer.Exit(USER_ERROR)
