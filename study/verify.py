"""`python -m study.verify RESULTS`: compare a results folder with its ledger, and restore what has another copy."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from renalnet.commands.line import USER_ERROR, run
from renalnet.errors import ResultsError
from renalnet.runtime.lease import Lease
from study.integrity.completion import keep_texts
from study.integrity.inspection import Inspection, inspect
from study.integrity.mending import Mended, clear, mend, restore_manifest, with_restored
from study.records.ledger import Ledger
from study.records.manifest import find_manifest
from study.records.results import MANIFEST, Results

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def verify(
    results: Annotated[str, typer.Argument(help="Results folder of study.run: a path or a URI.")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Restore files from other copies, have the study's command make others again, and give up lost "
            "weights of finalists, so that the next best trials take their place.",
        ),
    ] = False,
) -> None:
    """List the lost and damaged files of finished work, one a line. Exit code 0 if there are none, else 2."""
    folder = Results(results)
    if repair:
        with Lease(folder.lease_path):
            is_whole = _repair(folder)
    else:
        is_whole = _check(folder)
    if not is_whole:
        raise typer.Exit(USER_ERROR)


def _check(results: Results) -> bool:
    _require_study(results)
    found = inspect(results, is_full=True)
    for fault in found.faults:
        typer.echo(f"{fault}")
    where = "read without a ledger" if found.is_adopted else "compared with the ledger"
    typer.echo(f"{results}: {len(found.ledger.files)} files {where}, {len(found.faults)} lost or damaged")
    return not found.faults


def _repair(results: Results) -> bool:
    manifest = restore_manifest(results)
    _require_study(results)
    found = inspect(results, is_full=True)
    mended = mend(results, found, gives_up=True)
    clear(results, found, mended, gives_up=True)
    for each in [*([manifest] if manifest else []), *mended]:
        typer.echo(f"{each.fault}; {each.words}")
    left = [each for each in mended if each.remedy in ("to make again", "none")]
    _write_ledger(results, found, mended, is_whole=not left)
    typer.echo(f"{results}: {len(mended) - len(left)} of {len(mended)} lost or damaged files are mended")
    return not left


def _write_ledger(results: Results, found: Inspection, mended: Sequence[Mended], *, is_whole: bool) -> None:
    """Write the restored files into the ledger, and take out the weights that were given up."""
    # A new ledger would not know the files that are still missing, and the study would not miss them.
    if found.is_adopted and not is_whole:
        return
    content = with_restored(results, found, mended)
    gone = {each.fault.name for each in mended if each.remedy == "left out"}
    kept = {name: entry for name, entry in content.files.items() if name not in gone}
    if mended or found.is_adopted:
        Ledger(results).write(replace(content, files=kept))
        keep_texts(results)


def _require_study(results: Results) -> None:
    if find_manifest(results) is None:
        raise ResultsError(f"{results} holds no {MANIFEST}; name the folder that study.run wrote, or restore the file")


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
