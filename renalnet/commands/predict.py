"""`renalnet predict`: a mask for each scan."""

from typing import TYPE_CHECKING

import typer
from rich.console import Console

from renalnet.commands.line import USER_ERROR
from renalnet.commands.options import Bundle, Inference, PredictOut, Scans, Series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from renalnet.inference.prediction import Told


def predict(scans: Scans, model: Bundle, out: PredictOut, series: Series = None, set_: Inference = None) -> None:
    """Segment CTs: a mask on each CT's own grid, and a JSON file of volumes and confidence beside it.

    A DICOM series gives a DICOM segmentation (.dcm) too, which carries its patient and study so that a PACS files it.
    A kidney that is not found with confidence is left out, and named. A CT that fails does not stop the others; all
    that failed are named at the end, and the exit code is 2.
    """
    from renalnet.inference.prediction import list_jobs, load_predictor, lost_reader, predict_scan, read_scan
    from renalnet.runtime.workers import Workers

    jobs = list_jobs(scans, model, out, series=series, assignments=set_ or [])
    load_predictor(model, set_ or [])  # a wrong one is refused before any scan is read
    with Workers(1) as reader:  # a reader that crashes takes only its process with it; the next CT is read meanwhile
        tell_predictions(map(predict_scan, jobs, reader.map(read_scan, jobs, lost_reader)))


def tell_predictions(told: "Iterable[Told]") -> None:
    """Say what became of each scan, then which failed. Raises typer.Exit with code 2 where one did."""
    console, errors = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)
    failures = []
    for one in told:
        if one.failure:
            failures.append(one.failure)
        else:
            console.print(one.line, markup=False)
        for warning in one.warnings:
            errors.print(f"warning: {warning}", markup=False)
    for failure in failures:
        errors.print(f"error: {failure}", markup=False)
    if failures:
        raise typer.Exit(USER_ERROR)
