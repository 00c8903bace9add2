"""`python -m study.report RESULTS`: metrics of the best model, report.html, tables and figures."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from renalnet.commands.line import run
from renalnet.errors import ConfigError
from study.report import print_report, write_report
from study.report.analysis.added import parse_added
from study.report.analysis.contents import Programs, analyse
from study.report.analysis.statistics import Settings
from study.report.pages.formats import as_csv, as_json, as_markdown


class Format(StrEnum):
    """Of what is printed."""

    TEXT = "text"
    MD = "md"
    JSON = "json"
    CSV = "csv"


_PRINTED = {Format.MD: as_markdown, Format.JSON: as_json, Format.CSV: as_csv}
app = typer.Typer(add_completion=False)


@app.command(help="Print the best model's metrics beside the paper's and write report.html, tables and figures.")
def report(
    results: Annotated[str, typer.Argument(help="Results folder that study.run wrote; it may still be running.")],
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Level of all intervals.")
    ] = Settings.confidence,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = Settings.seed,
    add: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DIR: another program's masks of the test patients, on their scans' grids; repeatable."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The study's store, for --add, where it has moved.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="Of what is printed.")] = Format.TEXT,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Write files, or only print.")] = True,
) -> None:
    """Make the report of one results folder."""
    settings = Settings(confidence=confidence, seed=seed)
    if data and not add:
        raise ConfigError("--data names the store that --add measures on; give both or neither")
    programs = Programs([parse_added(one) for one in add or []], data)
    made = write_report(results, settings, programs) if write else analyse(results, settings, programs)
    if format_ is Format.TEXT:
        print_report(made, Console())
    else:
        sys.stdout.write(f"{_PRINTED[format_](made)}\n")


def main() -> None:
    """Entry point."""
    run(app)


if __name__ == "__main__":
    main()
