"""`renalnet store`: verify a store, or show its content."""

from rich.console import Console
from rich.table import Table

from renalnet.commands.options import StorePath
from renalnet.runtime.progress_bars import stage_progress


def verify_store(path: StorePath) -> None:
    """Compare each shard with its checksum in the manifest."""
    from renalnet.data.store.reader import open_store

    store = open_store(path)
    with stage_progress() as show:
        store.verify(lambda done, total: show("verify", done, total))
    Console().print(f"{len(store.manifest.shards)} shards, {len(store.cases())} cases: all match the manifest")


def describe_store(path: StorePath) -> None:
    """Show the number of cases, their mean size and the share of each label, per split."""
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
    console.print(f"fingerprint {store.fingerprint}, training mean {store.normalisation.mean:.4f} of the 0-1 scale")
