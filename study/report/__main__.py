"""`python -m study.report RESULTS`: metrics of the best model, report.html, tables and figures."""

from typing import Annotated

import typer
from rich.console import Console

from renalnet.command import run
from study.report import print_report, write_report
from study.report.contents import analyse
from study.report.statistics import Settings

app = typer.Typer(add_completion=False)


@app.command(help="Print the best model's metrics beside the paper's and write report.html, tables and figures.")
def report(
    results: Annotated[str, typer.Argument(help="Results folder that study.run wrote; it may still be running.")],
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Level of all intervals.")
    ] = Settings.confidence,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = Settings.seed,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Write files, or only print.")] = True,
) -> None:
    """Make the report of one results folder."""
    settings = Settings(confidence=confidence, seed=seed)
    made = write_report(results, settings) if write else analyse(results, settings)
    print_report(made, Console())


def main() -> None:
    """Entry point."""
    run(app)


if __name__ == "__main__":
    main()
