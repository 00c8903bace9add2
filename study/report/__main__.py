"""`python -m study.report RESULTS`: prints a summary of a study and writes report.html, tables and figures."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from renalnet.commands.line import run
from renalnet.errors import ConfigError
from study.records.results import Results
from study.report import print_report, write_report
from study.report.analysis.added import parse_added
from study.report.analysis.contents import Programs, analyse
from study.report.analysis.statistics import Settings
from study.report.pages.formats import as_csv, as_json, as_markdown


class Format(StrEnum):
    """Format of the printed report."""

    TEXT = "text"
    MD = "md"
    JSON = "json"
    CSV = "csv"


_PRINTED = {Format.MD: as_markdown, Format.JSON: as_json, Format.CSV: as_csv}
app = typer.Typer(add_completion=False)


@app.command(help="Print the winner's results beside the paper's, and write report.html, tables and figures.")
def report(
    results: Annotated[str, typer.Argument(help="Results folder of study.run; the study may still be running.")],
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Confidence level of all intervals.")
    ] = Settings.confidence,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = Settings.seed,
    add: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=DIR: masks of the test cases by another program, on the grids of their scans; repeatable."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The study's store, which --add needs; only if it was moved.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Format of the printed report.")] = Format.TEXT,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Write files, or only print.")] = True,
) -> None:
    """Make the report of a results folder."""
    if data and not add:
        raise ConfigError("--data without --add: the store is only read to measure other masks; give both or neither")
    folder = Results(results)
    settings = Settings(confidence=confidence, seed=seed)
    programs = Programs([parse_added(one) for one in add or []], data)
    made = write_report(folder, settings, programs) if write else analyse(folder, settings, programs)
    if format_ is Format.TEXT:
        print_report(made, Console())
    else:
        # Not by rich, which would wrap and style text that a program reads.
        sys.stdout.write(f"{_PRINTED[format_](made)}\n")


def main() -> None:
    """Run the command."""
    run(app)


if __name__ == "__main__":
    main()
