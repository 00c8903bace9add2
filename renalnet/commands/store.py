"""`renalnet store`: verify a store, or show its content."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from renalnet.commands.options import StorePath
from renalnet.runtime.progress_bars import stage_progress

_MAX_NAMED: Final = 40
"""Cases of a split that are named."""


def verify_store(path: StorePath) -> None:
    """Compare each shard with its checksum in the manifest."""
    from renalnet.data.store.reader import open_store

    store = open_store(path)
    with stage_progress() as show:
        store.verify(lambda done, total: show("verify", done, total))
    Console().print(f"{len(store.manifest.shards)} shards, {len(store.cases())} cases: all match the manifest")


def describe_store(path: StorePath) -> None:
    """Show the number of cases, their mean size and the share of each label, per split, and who is held out.

    STORE/splits.csv lists the split of every case.
    """
    from renalnet.data.store.reader import open_store

    store = open_store(path)
    spacing = store.manifest.config.spacing_mm
    table = Table(title=f"{path}, {'×'.join(map(str, spacing)) + ' mm' if spacing else 'own spacing'}")
    rows = store.describe()
    for name in rows[0]:
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console()
    console.print(table)
    for split in ("validation", "test"):
        # The name of a case may hold square brackets, which rich reads as markup.
        console.print(f"{split}: {_named(store.cases(split))}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"fingerprint {store.fingerprint}, training mean {store.normalisation.mean:.4f} of the 0-1 scale")


def _named(cases: Sequence[str]) -> str:
    rest = len(cases) - _MAX_NAMED
    return ", ".join(cases[:_MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "") or "none"
