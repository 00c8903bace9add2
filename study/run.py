"""`python -m study.run`: a whole study, from a cohort to the report. The same command again resumes it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from renalnet.commands.line import run
from renalnet.commands.options import PRESET_DEFAULT
from renalnet.config import chosen_labels, merge, override, read_file
from renalnet.config.presets import DEFAULT_PRESET, presets_of
from renalnet.data.store.reader import Store, open_store
from renalnet.errors import ConfigError
from renalnet.runtime import storage
from renalnet.runtime.lease import Lease
from renalnet.runtime.log import get_logger
from study.config.presets import STUDY_PRESETS, study_preset
from study.config.sections import StudyConfig
from study.execution.cohort import check_store
from study.execution.connection import check_address, inside_job
from study.execution.init_bundle import pin_init
from study.records.results import Results

_log = get_logger("study.run")  # not `__name__`, which is `__main__` here
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def study(
    preset: Annotated[
        str | None, typer.Option(help=f"Preset to start from: {', '.join(STUDY_PRESETS)}. {PRESET_DEFAULT}")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="YAML file of configuration values that replace the preset's.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Configuration value to change last, as key.sub=value. Can be repeated."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Store that `prepare` wrote. Without one, a synthetic cohort is painted.")
    ] = None,
    results: Annotated[
        str | None, typer.Option(help="Results folder: a path or a URI. The default is results/PRESET.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print a forecast of the whole study, and write nothing.")
    ] = False,
) -> None:
    """Run a study: search, final stage and report. After an interruption, the same command resumes it."""
    store_path = storage.absolute(data) if data else None
    store = open_store(store_path) if store_path else None
    settings = pin_init(_settings(preset or _preset_for(store), config, set_ or []))
    folder = Results(_results_folder(results, settings.preset))
    check_address()
    if store:
        # Before the lease, which creates the results folder: a store that cannot be used leaves nothing behind.
        check_store(store, settings)
    # Imports PyTorch and Ray Tune, for which `--help` and a refused command need not wait.
    from study.execution.driver import forecast_study, run_study, storage_may_fail

    if dry_run:
        for line in forecast_study(settings, store_path):
            typer.echo(line)
        return
    from study.report import print_report, write_report

    # Outside: a storage that cannot be used at all has lost nothing.
    with Lease(folder.lease_path) as lease, storage_may_fail(folder):
        run_study(settings, folder, store_path, lease.check)
        _log.info("writing the report")
        report = write_report(folder)
    print_report(report, Console())


def main() -> None:
    """Run the command line."""
    run(app)


def _preset_for(store: Store | None) -> str:
    # A store with a grid of its own is used with `prepare.spacing_mm`, which `check_store` compares with it.
    return next(iter(presets_of(store.manifest.config)), DEFAULT_PRESET) if store else DEFAULT_PRESET


def _settings(preset: str, config: str | None, assignments: list[str]) -> StudyConfig:
    values = read_file(config) if config else {}
    settings = study_preset(preset, chosen_labels(assignments, values))
    if config:
        settings = merge(settings, values, config)
    return override(settings, assignments)


def _results_folder(results: str | None, preset: str) -> str:
    """Return an absolute path or a URI.

    In a submitted job, results never go to the working directory, which Ray deletes with the job.
    """
    if results is None:
        return str(Path.home() / "renalnet-results" / preset) if inside_job() else storage.absolute(f"results/{preset}")
    if inside_job() and "://" not in results and not Path(results).is_absolute():
        raise ConfigError(
            f"--results {results}: inside a submitted job this must be an absolute path or a URI, or it is lost"
        )
    return storage.absolute(results)


if __name__ == "__main__":
    main()
