"""`renalnet plan`: the planning sheet of a mask."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from renalnet.commands.options import require_json

if TYPE_CHECKING:
    from renalnet.planning.files import Plan


def plan(
    masks: Annotated[list[Path], typer.Argument(help="Masks (1 kidney, 2 tumor) as files, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write; a CSV file goes beside it.")] = None,
    member: Annotated[
        list[Path] | None, typer.Option(help="Another mask of the same scan, for the spread of measures; repeatable.")
    ] = None,
    margin_mm: Annotated[float, typer.Option(min=0, help="Kidney nearer to the tumor than this is taken with it.")] = 5,
) -> None:
    """The planning sheet of masks: volumes, diameters, contact, exophytic share, place, what of R.E.N.A.L. is known.

    Research software, not a medical device. An empty mask has no kidney and gives no sheet.
    """
    from renalnet.errors import InputError
    from renalnet.planning.files import masks_of, plan_mask
    from renalnet.planning.sheet_text import STATEMENT
    from renalnet.runtime.csv_text import to_csv
    from renalnet.runtime.storage import write_bytes, write_json

    if out:
        require_json(out)
    found = masks_of(masks)
    if member and len(found) > 1:
        raise InputError(f"--member goes with one mask, and {len(found)} are named; name the masks one by one")
    plans = [plan_mask(path, member or [], margin_mm) for path in found]
    console = Console(highlight=False)
    for one in plans:
        console.print(_plan_table(one))
    console.print(STATEMENT)
    if out:
        rows = [row for one in plans for row in one.rows()]
        write_json(out, {"statement": STATEMENT, "sheets": rows})
        write_bytes(out.with_suffix(".csv"), to_csv(rows))


def _plan_table(plan: "Plan") -> Table:
    from rich.text import Text

    from renalnet.planning import ROWS, measures_of, value_text

    table = Table("", *(sheet.side for sheet in plan.sheets), title=Text(str(plan.mask)), title_justify="left")
    if not plan.sheets:
        table.add_row("no kidney in this mask")
    for line in ROWS if plan.sheets else ():
        values = zip(plan.sheets, plan.spreads, strict=True)
        table.add_row(line.title, *(value_text(line, measures_of(sheet), spread) for sheet, spread in values))
    return table
