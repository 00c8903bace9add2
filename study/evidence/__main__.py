"""`python -m study.evidence`: everything from label maps to tables and figures. The same command again resumes it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from renalnet.commands.line import run
from renalnet.data.phantom.label_maps import MAPS_VARIABLE, find_maps
from study.evidence.plan import PRESETS, Work, evidence_config, plan_lines
from study.execution.connection import check_address
from study.execution.init_bundle import pin_init
from study.report.analysis.added import parse_added

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def evidence(
    preset: Annotated[str, typer.Option(help=f"Preset to start from: {', '.join(PRESETS)}.")] = "anatomy",
    maps: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of label maps with the folders train and test. Can be repeated. The default are all such "
            f"folders in {MAPS_VARIABLE}."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of tables and figures. The default is results/evidence/equal-PRESET.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder of scans, store and study. The default is a folder in results, named as --out."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the painter and of the search.")] = 0,
    config: Annotated[
        str | None, typer.Option(help="YAML file of configuration values that replace the preset's.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Configuration value to change last, as key.sub=value. Can be repeated."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DIR: masks of the test cases by another program. Can be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print plan and forecast, and write nothing.")] = False,
) -> None:
    """Paint scans on real label maps, search for all networks alike, and write tables and figures.

    After an interruption, the same command goes on. Given again with --add, it only makes the tables again.
    """
    settings = pin_init(evidence_config(preset, seed, set_ or [], config))
    found = find_maps(maps or [], "--maps")
    programs = [parse_added(one) for one in add or []]
    target = out or Path("results") / "evidence" / f"equal-{preset}"
    folder = Work((work or Path("results") / target.name).absolute())
    check_address()
    for line in plan_lines(settings, folder, found):
        typer.echo(line)
    # Imports PyTorch and Ray Tune, for which `--help` and a refused command need not wait.
    from study.evidence.stages import forecast_lines, run_stages
    from study.report import print_report

    if dry_run or not folder.has_begun:
        for line in forecast_lines(settings, folder, found):
            typer.echo(line)
    if not dry_run:
        report = run_stages(settings, folder, found, programs, target)
        print_report(report, Console())
        typer.echo(f"tables and figures: {target}")


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
