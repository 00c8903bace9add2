"""`renalnet plan`: the planning sheets of masks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from renalnet.commands.options import LabelSetName, require_json
from renalnet.config import KIDNEY_TUMOR, label_set

if TYPE_CHECKING:
    from renalnet.planning.files import Plan


def plan(
    masks: Annotated[list[Path], typer.Argument(help="Mask files, or folders of mask files.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write. A CSV file of the same name is added.")] = None,
    member: Annotated[
        list[Path] | None,
        typer.Option(help="Another mask of the same scan, to show how much measures vary. Can be repeated."),
    ] = None,
    margin_mm: Annotated[
        float, typer.Option(min=0, help="Margin in mm. Kidney closer to the tumor is resected with it.")
    ] = 5,
    labels: LabelSetName = KIDNEY_TUMOR.name,
    gfr: Annotated[
        float | None, typer.Option(help="GFR before surgery in ml/min/1.73 m², to forecast that after it.")
    ] = None,
    nearness_mm: Annotated[
        float | None,
        typer.Option(help="Distance in mm from the tumor to the collecting system or sinus, as seen in the scan."),
    ] = None,
) -> None:
    """Show the planning sheet of each kidney in a mask.

    A sheet has volumes, diameters, contact area, exophytic share, location, the R.E.N.A.L. and PADUA scores or their
    range, each lesion, and the share of the renal function. An empty mask has no kidney and gives no sheet. Research
    software, not a medical device.
    """
    from renalnet.errors import InputError
    from renalnet.planning.files import masks_of, plan_mask
    from renalnet.planning.sheet_text import SOURCE_OF_FORECAST, STATEMENT
    from renalnet.prediction.provenance import measured_masks

    # Before any mask is measured, so that a wrong --out costs no time.
    if out:
        require_json(out)
    paths = masks_of(masks)
    if member and len(paths) > 1:
        raise InputError(f"--member: needs exactly one mask, but {len(paths)} are named; name one mask at a time")
    if len(paths) > 1 and (gfr is not None or nearness_mm is not None):
        raise InputError(
            f"--gfr and --nearness-mm: are of one patient, but {len(paths)} masks are named; name one mask at a time"
        )
    meaning = label_set(labels)
    plans = [
        plan_mask(path, member or [], margin_mm, labels=meaning, gfr=gfr, nearness_mm=nearness_mm) for path in paths
    ]
    console = Console(highlight=False)
    for one in plans:
        console.print(_plan_table(one))
    if gfr is not None:
        console.print(SOURCE_OF_FORECAST)
    console.print(STATEMENT)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    for one in plans:
        for warning in (warning for of_kidney in one.warnings for warning in of_kidney):
            # A path may hold square brackets, which rich reads as markup.
            errors.print(f"warning: {one.mask}: {warning}", markup=False)
    if out:
        settings = {"labels": meaning.name, "margin_mm": margin_mm, "gfr": gfr, "nearness_mm": nearness_mm}
        _write(out, plans, measured_masks([*paths, *(member or [])], settings))


def _write(out: Path, plans: "list[Plan]", provenance: dict[str, Any]) -> None:
    from renalnet.planning.sheet_text import STATEMENT
    from renalnet.runtime.csv_text import to_csv
    from renalnet.runtime.storage import write_bytes, write_json

    rows = [row for one in plans for row in one.rows()]
    lesions = [row for one in plans for row in one.lesion_rows()]
    write_json(out, {"statement": STATEMENT, "sheets": rows, "lesions": lesions, "provenance": provenance})
    write_bytes(out.with_suffix(".csv"), to_csv(rows))


def _plan_table(plan: "Plan") -> Table:
    from rich.text import Text

    from renalnet.planning import lines_of, measures_of, value_text
    from renalnet.planning.sheet_text import function_texts, lesion_texts

    # As `Text`, because a path may hold square brackets, which rich reads as markup.
    table = Table("", *(sheet.side for sheet in plan.sheets), title=Text(str(plan.mask)), title_justify="left")
    if not plan.sheets:
        table.add_row("no kidney in this mask")
    for line in lines_of(plan.sheets[0].other_ml) if plan.sheets else ():
        values = zip(plan.sheets, plan.spreads, strict=True)
        table.add_row(line.title, *(value_text(line, measures_of(sheet), spread) for sheet, spread in values))
    for title, texts in {**function_texts(plan.functions), **lesion_texts(plan.lesions)}.items():
        table.add_row(title, *texts)
    return table
