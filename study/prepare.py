"""`python -m study.prepare`: `python -m renalnet prepare` with one Ray task per scan, over a cluster."""

from functools import partial

import typer

from renalnet.commands.line import run
from renalnet.commands.options import (
    GridPreset,
    LabelMap,
    Phase,
    Refit,
    Series,
    Set,
    SkipBad,
    Source,
    SplitsFile,
    StoreOut,
    TestSource,
)
from renalnet.commands.prepare import prepare_request, run_prepare
from study.execution.connection import check_address, connected, refuse_relative

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def prepare(
    src: Source,
    out: StoreOut,
    test: TestSource = None,
    splits: SplitsFile = None,
    preset: GridPreset = None,
    set_: Set = None,
    label_map: LabelMap = None,
    series: Series = None,
    phase: Phase = None,
    skip_bad: SkipBad = False,
    refit: Refit = False,
) -> None:
    """Read, check, localise and cut scans as Ray tasks. Write the ROIs as a new store, or add them to an existing one.

    Every node must see SRC and --out under the same path, as on a network file system. --out may be a URI.
    """
    for path in (str(src), out, str(test or src)):
        refuse_relative(path)
    request = prepare_request(
        src, out, test, splits, preset, set_, label_map, series=series, phase=phase, skip_bad=skip_bad, refit=refit
    )
    check_address()
    # Imports PyTorch, for which `--help` and a refused command need not wait.
    from renalnet.data.images.volume import use_threads
    from study.execution.slots import processor_slots
    from study.execution.tasks import RayPool

    with connected():
        # One thread of SimpleITK, because there is a task for each processor.
        run_prepare(request, RayPool(processor_slots(), partial(use_threads, 1)))


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
