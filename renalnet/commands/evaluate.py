"""`renalnet evaluate`: all metrics between two folders of masks."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from renalnet.commands.options import NUM_WORKERS, NumWorkers, require_json


def evaluate(
    truth: Annotated[Path, typer.Option(help="Folder of true masks.")],
    pred: Annotated[Path, typer.Option(help="Folder of predicted masks of the same names.")],
    out: Annotated[Path, typer.Option(help="JSON file to write; a CSV file of the cases goes beside it.")],
    workers: NumWorkers = NUM_WORKERS,
) -> None:
    """All metrics between two folders of masks.

    Of kidney and tumor, and of the KiTS challenge's kidney_and_mass and mass. Empty masks: both empty is Dice 1 and
    distance 0, one empty Dice 0 and the diagonal of the volume; they are counted and stay in the means.
    """
    from renalnet.evaluation.folders import as_csv, evaluate_folders
    from renalnet.evaluation.rows import SHOWN
    from renalnet.evaluation.table import mean_and_sd
    from renalnet.runtime.storage import write_bytes, write_json
    from renalnet.runtime.workers import Workers

    require_json(out)
    with Workers(workers) as pool:
        result = evaluate_folders(truth, pred, pool)
    write_json(out, result)
    write_bytes(out.with_suffix(".csv"), as_csv(result))
    table = Table("label", *SHOWN.values(), title=f"{len(result['cases'])} cases")
    for label, summary in result["summary"].items():
        table.add_row(label.replace("_", " "), *(mean_and_sd(summary, name) for name in SHOWN))
    Console().print(table)
