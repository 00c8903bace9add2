"""`renalnet evaluate`: the measures of predicted masks against true ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from renalnet.commands.options import NUM_WORKERS, LabelSetName, NumWorkers, require_json
from renalnet.config import KIDNEY_TUMOR, label_set

if TYPE_CHECKING:
    from renalnet.evaluation.table import Evaluation

_MAX_NAMED: Final = 5
"""Cases that a warning names."""


def evaluate(
    truth: Annotated[
        Path,
        typer.Option(
            help="Folder of true label maps: files, or a folder with a file `segmentation` for each case (KiTS)."
        ),
    ],
    pred: Annotated[Path, typer.Option(help="Folder of predicted masks with the names of the files or cases.")],
    out: Annotated[
        Path,
        typer.Option(help="JSON file to write. A CSV file of the same name, one row per case and label, is added."),
    ],
    labels: LabelSetName = KIDNEY_TUMOR.name,
    workers: NumWorkers = NUM_WORKERS,
) -> None:
    """Measure predicted masks against true label maps.

    The labels are those of the label set, and kidney_and_mass and mass as in the KiTS challenge. If both masks of a
    label are empty, Dice is 1 and the surface distance is 0. If one is empty, Dice is 0 and the distance is the
    diagonal of the volume. Such cases are counted, and they are included in the means.
    """
    from renalnet.data.images.mask_files import find_masks
    from renalnet.evaluation.folders import as_csv, evaluate_folders
    from renalnet.prediction.provenance import measured_masks
    from renalnet.runtime.storage import write_bytes, write_json
    from renalnet.runtime.workers import Workers

    meaning = label_set(labels)
    require_json(out)  # before the masks are measured, which takes long
    with Workers(workers) as pool:
        result = evaluate_folders(truth, pred, pool, labels=meaning)
    masks = [mask for folder in (truth, pred) for mask in find_masks(folder).values()]
    write_json(out, {**result, "provenance": measured_masks(masks, {"labels": meaning.name})})
    write_bytes(out.with_suffix(".csv"), as_csv(result))
    Console(markup=False).print(_summary_table(result))
    _print_placed(result)


def _print_placed(result: "Evaluation") -> None:
    placed = result.get("compared_in_place", [])
    if placed:
        named = ", ".join(placed[:_MAX_NAMED]) + (", …" if len(placed) > _MAX_NAMED else "")
        line = (
            f"{len(placed)} of {len(result['cases'])} cases ({named}): one mask covers a part of the other one's grid"
        )
        # The name of a case may hold square brackets, which rich reads as markup.
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"warning: {line}, as 3D Slicer saves it; it was compared in place, with background around it", markup=False
        )


def _summary_table(result: "Evaluation") -> Table:
    from renalnet.evaluation.rows import SHOWN
    from renalnet.evaluation.table import mean_and_sd

    table = Table("label", *SHOWN.values(), title=f"{len(result['cases'])} cases")
    for label, summary in result["summary"].items():
        table.add_row(label.replace("_", " "), *(mean_and_sd(summary, name) for name in SHOWN))
    return table
