"""`python -m study.predict`: `python -m renalnet predict` with one Ray task per scan, over a cluster."""

from functools import partial
from typing import Annotated

import typer

from renalnet.commands.line import run
from renalnet.commands.options import BackendOption, Bundle, Formats, Inference, Phase, PredictOut, Scans, Series
from renalnet.commands.predict import print_packaged, print_reports
from renalnet.config.training import PACKAGED
from renalnet.runtime import storage
from study.config.sections import ResourceConfig
from study.execution.connection import check_address, connected, refuse_relative

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Cpus = Annotated[int, typer.Option(min=1, help="Processor slots and threads for each scan.")]
Gpus = Annotated[
    float | None,
    typer.Option(min=0.01, help="GPUs for each scan. With a fraction, scans share a GPU. Default: 1 if there are any."),
]


@app.command()
def predict(
    scans: Scans,
    out: PredictOut,
    model: Bundle = PACKAGED,
    series: Series = None,
    phase: Phase = None,
    format_: Formats = None,
    set_: Inference = None,
    backend: BackendOption = "auto",
    cpus: Cpus = 1,
    gpus: Gpus = None,
) -> None:
    """Segment scans as Ray tasks: write a mask on each scan's own grid, and a JSON file about it.

    Every node must see the scans, --model and --out under the same path, as on a network file system. --out may be a
    URI.
    """
    # Imports PyTorch, for which `--help` need not wait.
    from renalnet.nets.packaged import absolute_bundle
    from renalnet.prediction.formats import parse_formats
    from renalnet.prediction.scan_jobs import ModelUse, list_jobs, lost_scan, predict_scan
    from study.execution.slots import find_slots
    from study.execution.tasks import RayPool, use_threads

    for path in (*map(str, scans), *([] if model == PACKAGED else [model]), out):
        refuse_relative(path)
    # Absolute, because tasks on other nodes have another working directory.
    use = ModelUse(absolute_bundle(model), tuple(set_ or []), backend)
    target = storage.absolute(out)
    formats = parse_formats(format_)
    paths = [scan.absolute() for scan in scans]
    jobs = list_jobs(paths, use, target, series=series, phase=phase, formats=formats)
    use.load()  # a bundle that cannot be used is refused before any task starts
    print_packaged(model)
    check_address()
    with connected():
        slots = find_slots(ResourceConfig(cpus_per_trial=cpus, gpus_per_trial=gpus))
        print_reports(RayPool(slots, partial(use_threads, cpus)).map(predict_scan, jobs, lost_scan))


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
