"""`renalnet store`: verify a store, show its content, or export it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from renalnet.commands.options import StorePath
from renalnet.runtime.progress_bars import stage_progress
from renalnet.types import SPLITS

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


def export_store(
    path: StorePath,
    out: Annotated[Path, typer.Option(help="Folder of the data sets, which nnU-Net calls nnUNet_raw.")],
    number: Annotated[int, typer.Option(help="Number of the data set, 1 to 999. No other one in OUT may have it.")],
    name: Annotated[str, typer.Option(help="Name of the data set: letters, digits, hyphens and underscores.")],
) -> None:
    """Write a store as a raw data set of nnU-Net 2: OUT/DatasetNUMBER_NAME.

    Training and validation cases are in imagesTr and labelsTr, test cases in imagesTs and labelsTs. splits_final.json
    has the training and the validation cases as one fold. nnU-Net looks for it in its folder of preprocessed data.
    """
    from renalnet.data.store.nnunet import FOLDS_FILE, export_nnunet
    from renalnet.data.store.reader import open_store

    store = open_store(path)
    with stage_progress() as show:
        folder = export_nnunet(store, out, number, name, lambda done, total: show("export", done, total))
    counts = ", ".join(f"{len(store.cases(split))} {split}" for split in SPLITS)
    # A path may hold square brackets, which rich reads as markup, and a wrapped path cannot be copied.
    console = Console(markup=False, soft_wrap=True, highlight=False)
    console.print(f"{folder}: cases {counts}")
    if store.cases("validation"):
        preprocessed = f"$nnUNet_preprocessed/{Path(folder).name}"
        console.print(f"after nnUNetv2_plan_and_preprocess, copy {folder}/{FOLDS_FILE} to {preprocessed}")


def _named(cases: Sequence[str]) -> str:
    rest = len(cases) - _MAX_NAMED
    return ", ".join(cases[:_MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "") or "none"
