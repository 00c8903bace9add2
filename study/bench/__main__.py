"""`python -m study.bench`: the project's benchmarks, compared with the peers that are installed."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from renalnet.commands.line import run
from renalnet.config import override
from renalnet.errors import ConfigError, nearest
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger
from study.bench.data import held_out, loader, localise, painted, prepare_growth, stream
from study.bench.measuring.size import Size
from study.bench.measuring.table import FIGURE, TABLE, Row, as_json, print_table
from study.bench.networks import gpu, inference, initial, network, post_processing
from study.bench.parts import ablation
from study.bench.search import overhead


def _replayed(size: Size, folder: Path) -> Iterator[Row]:
    # Imported when it is run, since it needs Optuna and Ray, as does the next one.
    from study.bench.search import replay

    return replay.rows(size, folder)


def _faults(size: Size, folder: Path) -> Iterator[Row]:
    from study.bench.faults import campaign

    return campaign.rows(size, folder)


BENCHES: Final[dict[str, Callable[[Size, Path], Iterator[Row]]]] = {
    "loader": loader.rows,
    "stream": stream.rows,
    "prepare": prepare_growth.rows,
    "localise": localise.rows,
    "held-out": held_out.rows,
    "painted": painted.rows,
    "init": initial.rows,
    "network": network.rows,
    "inference": inference.rows,
    "post": post_processing.rows,
    "parts": ablation.rows,
    "gpu": gpu.rows,
    "study": overhead.rows,
    "search": _replayed,
    "faults": _faults,
}
"""Function that yields the rows of each benchmark, by its name on the command line."""
_BY_NAME: Final = ("parts", "gpu")
"""Benchmarks that run only where they are named: they take hours, or are mostly rows of others."""
_TABLE_WIDTH: Final = 150
"""Least width of the table in characters, so that no column is cut off where the output is a file."""
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("study.bench")  # `__name__` is `__main__` here


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Benchmarks to run: {', '.join(BENCHES)}. The default is all but {' and '.join(_BY_NAME)}."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON file to write, with the rows, versions, machine and commit. The figure of `painted` is written "
            "beside it, with the ending .png, and the table of `parts` with the ending .csv."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help=f"Size to change, key=value. Can be repeated. Keys: {', '.join(Size.model_fields)}."
        ),
    ] = None,
) -> None:
    """Measure on seeded synthetic images in a temporary folder (TMPDIR). This takes about two hours on two cores.

    `network` takes five minutes: training steps and inferences beside plain PyTorch and MONAI's SegResNet.
    `inference` and `post` take five minutes: stitched inference beside MONAI's, and post-processing beside the usual
    tools. `study` runs sleeping trials for fifteen minutes. `search` replays searches on the curves in
    results/evidence/search. `faults` takes forty minutes: kills, full disks and damaged files over the life of tiny
    studies, of which it counts what was survived, named and lost. `parts` takes two and a half hours: an ablation of
    the method on painted label maps, which goes on after a kill where `parts_work` names a folder. `gpu` is for a
    machine with a GPU: it checks results against float64 and the resuming of a run, then yields the rows of 3D_FCN_PPM
    of `network` and `inference`.
    """
    size = override(Size(), set_ or [])
    rows = [row for name in names or _default_names() for row in _rows(name, size, out)]
    print_table(rows, Console(width=max(Console().width, _TABLE_WIDTH), markup=False))
    if out:
        storage.write_json(out, as_json(rows, size.model_dump(mode="json")))


def _default_names() -> list[str]:
    return [name for name in BENCHES if name not in _BY_NAME]


def _rows(name: str, size: Size, out: Path | None) -> list[Row]:
    if name not in BENCHES:
        raise ConfigError(f"unknown benchmark '{name}'; {nearest(name, BENCHES)}")
    with tempfile.TemporaryDirectory(prefix="renalnet-bench-") as folder:
        rows = []
        for row in BENCHES[name](size, Path(folder)):
            rows.append(row)
            _log.info("%s: %s %s", row.bench, row.what, row.peer)
        for beside in (Path(folder) / FIGURE, Path(folder) / TABLE):
            if out and beside.exists():
                shutil.copyfile(beside, out.with_suffix(beside.suffix))
        return rows


if __name__ == "__main__":
    run(app)
