"""`python -m study.run`: the whole study, from a cohort to the report; the same command again resumes."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeAlias

import ray
import typer
from rich.console import Console

from renalnet.commands.line import run
from renalnet.config import MAIN_NETWORK, InferenceConfig, NetName, StitchConfig, merge, override, read_file
from renalnet.data.localise.atlas import ATLAS_FILE
from renalnet.data.phantom import write_cohort
from renalnet.data.prepare.preparation import local_pool, prepare
from renalnet.data.prepare.request import Request
from renalnet.data.store.reader import MANIFEST as STORE_MANIFEST
from renalnet.data.store.reader import Store, open_store
from renalnet.errors import ConfigError, LostError, StoreError
from renalnet.nets.bundle import CONFIG_FILE, copy_models
from renalnet.nets.describe import equal_cost_width
from renalnet.runtime import storage
from renalnet.runtime.lease import Lease
from renalnet.runtime.log import get_logger
from renalnet.runtime.machine import num_cores
from renalnet.types import SPLITS
from study.config.presets import STUDY_PRESETS, study_preset
from study.config.sections import Slots, StudyConfig
from study.execution.repeat_searcher import run_repeats
from study.execution.tasks import (
    FinalWork,
    check_address,
    connected,
    find_cluster,
    find_slots,
    inside_job,
    measure_on_slot,
)
from study.execution.tuner import fit
from study.final.model_card import model_card
from study.final.stage import Outcome, run_final
from study.finalists.finalists import damaged_models
from study.finalists.repeats import check_folds
from study.finalists.selection import earlier_readings
from study.progress.forecast import forecast_lines
from study.progress.trial_cost import MeasureJob
from study.records import paths
from study.records.manifest import StudyManifest
from study.records.trials import write_tables
from study.search.importance import write_importances
from study.search.journal import open_journal
from study.search.scheduler import NetworkScheduler
from study.search.searcher import NetworkSearch
from study.search.trial_counts import count_repeats

Widths: TypeAlias = dict[NetName, dict[int, int]]
"""For each network, its own width for each of 3D_FCN_PPM's."""
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("study.run")  # `__name__` is `__main__` here


@app.command()
def study(
    preset: Annotated[str, typer.Option(help=f"Start from: {', '.join(STUDY_PRESETS)}.")] = "quick",
    config: Annotated[str | None, typer.Option(help="YAML file laid over the preset.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.sub=value laid over both; repeatable.")] = None,
    data: Annotated[str | None, typer.Option(help="A prepared store; default: a synthetic cohort is painted.")] = None,
    results: Annotated[str | None, typer.Option(help="Results folder; default: results/PRESET.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast a whole new study; write nothing.")] = False,
) -> None:
    """Search, final stage and report. The same command again goes on where the last one stopped."""
    from study.report import print_report, write_report

    settings = _settings(preset, config, set_ or [])
    folder = _results_folder(results, settings.preset)
    store_path = storage.absolute(data) if data else None
    check_address()
    if store_path:
        _check_store(open_store(store_path), settings)
    if dry_run:
        _print_forecast(settings, store_path)
        return
    with Lease(storage.join(folder, paths.LEASE)) as lease:
        manifest = StudyManifest(folder, settings, store_path)
        store = _given_store(manifest, store_path) if store_path else _embedded_store(manifest, settings, folder)
        with connected() as dashboard, _storage_may_fail(folder):
            manifest.update(ray_dashboard=dashboard)
            _search_and_finish(manifest, settings, folder, store, lease.check)
        with _storage_may_fail(folder):
            report = write_report(folder)
    print_report(report, Console())


def main() -> None:
    """Entry point."""
    run(app)


def _print_forecast(config: StudyConfig, store_path: str | None) -> None:
    """What the configuration means and will take on the cluster at hand."""
    with connected():
        slots = find_slots(config.resources)
        widths = {network: own[config.train.net.width] for network, own in network_widths(config).items()}
        _log.info("measuring some steps of each network")
        measured = measure_on_slot(MeasureJob(config, widths, store_path, slots.cpus), slots)
        for line in forecast_lines(config, find_cluster(), slots, measured):
            typer.echo(line)


def _settings(preset: str, config: str | None, assignments: list[str]) -> StudyConfig:
    settings = study_preset(preset)
    if config:
        settings = merge(settings, read_file(config), config)
    return override(settings, assignments)


def _results_folder(results: str | None, preset: str) -> str:
    """An absolute path or a URI. A job's working directory is deleted with the job, so results never go there."""
    if results is None:
        return str(Path.home() / "renalnet-results" / preset) if inside_job() else storage.absolute(f"results/{preset}")
    if inside_job() and "://" not in results and not Path(results).is_absolute():
        raise ConfigError(
            f"--results {results}: inside a submitted job this must be an absolute path or a URI, or it is lost"
        )
    return storage.absolute(results)


@contextmanager
def _storage_may_fail(results: str) -> Iterator[None]:
    """Inside, an object store that stops to answer ends the study with what that means. Raises LostError."""
    try:
        yield
    except OSError as error:
        if error.errno is not None or not storage.is_remote(results):
            raise
        raise LostError(
            f"{results}: the storage failed in mid-study ({error}); lost are the epochs under way, kept is all that "
            "had ended; repeat the command when it answers again"
        ) from error


def _check_store(store: Store, config: StudyConfig) -> None:
    """Refuse a store that the study cannot use, before anything is written."""
    for split in SPLITS:
        if not store.cases(split):
            raise StoreError(
                f"{store.path}: no {split} patients; prepare it with some, by --test, --splits or more cases"
            )
    spacing = store.manifest.config.spacing_mm
    if spacing != config.prepare.spacing_mm:
        raise ConfigError(
            f"{store.path} was prepared at {spacing} mm, the preset '{config.preset}' works at "
            f"{config.prepare.spacing_mm}; choose the preset it was prepared with, or --set prepare.spacing_mm"
        )
    check_folds(config, store)


def _given_store(manifest: StudyManifest, path: str) -> Store:
    store = open_store(path)
    manifest.describe_data(store, path, synthetic=store.manifest.synthetic)
    return store


def _embedded_store(manifest: StudyManifest, config: StudyConfig, results: str) -> Store:
    """The synthetic cohort in the results folder: painted and prepared, or taken as it is there."""
    path = storage.join(results, "store")
    if not storage.is_remote(results):
        _paint_and_prepare(manifest, config, Path(results) / "cohort", path)
    elif not storage.exists(storage.join(path, STORE_MANIFEST)):
        with TemporaryDirectory(prefix="renalnet-cohort-") as cohort:  # scans are painted as local files
            _paint_and_prepare(manifest, config, Path(cohort), path)
    store = open_store(path)
    check_folds(config, store)
    manifest.describe_data(store, "synthetic phantoms", synthetic=True)
    return store


def _paint_and_prepare(manifest: StudyManifest, config: StudyConfig, cohort: Path, store: str) -> None:
    """Do what an earlier call has not done."""
    workers = num_cores()
    with manifest.timed("phantom"):
        _log.info("painting %d synthetic patients", config.phantom.num_cases)
        write_cohort(cohort, config.phantom, workers=workers)
    if not storage.exists(storage.join(store, STORE_MANIFEST)):
        with manifest.timed("prepare"):
            _log.info("cutting their regions of interest")
            with local_pool(workers) as pool:
                prepare(Request(str(cohort), store, config.prepare), pool)


def _search_and_finish(
    manifest: StudyManifest, config: StudyConfig, results: str, store: Store, check: Callable[[], None]
) -> None:
    """What the trials, the repeats and the final stage leave; `check` raises where another driver has taken over."""
    slots = find_slots(config.resources)
    widths = network_widths(config)

    cluster = {f"num_{kind.lower()}s": int(ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU")}
    cluster["num_slots"] = slots.num_slots
    manifest.update(machine=cluster, widths={network: own[config.train.net.width] for network, own in widths.items()})
    with manifest.timed("search"):
        run_search(config, results, store, slots, widths, check)
    write_tables(results)
    write_importances(results, config.train.epochs)
    if sum(count_repeats(config).values()):
        with manifest.timed("repeats"):
            run_repeats(config, results, store, slots, check)
    check()
    with manifest.timed("final"):
        _log.info("final stage: full inference on validation, then on test patients")
        manifest.warn(damaged_models(results, config))
        outcome = run_final(config, results, store, FinalWork(slots, check))
        _write_best(results, store, outcome, config.final.stitch)
    manifest.warn([*outcome.warnings, *earlier_readings(results)])
    device = storage.read_json(storage.join(paths.best_folder(results), CONFIG_FILE))["device"]
    manifest.update(finished=True, winner=outcome.winner.name, machine={**cluster, "device": device})
    storage.write_bytes(storage.join(paths.best_folder(results), "README.md"), model_card(results).encode())


def run_search(
    config: StudyConfig, results: str, store: Store, slots: Slots, widths: Widths, check: Callable[[], None]
) -> None:
    """Run every trial that has not ended yet."""
    with closing(open_journal(results)) as journal:
        searcher = NetworkSearch(config, results, journal, widths, slots)
        if searcher.num_left == 0:
            return
        _log.info("%d of %d trials to run, %d at a time", searcher.num_left, searcher.num_planned, slots.num_slots)
        scheduler = NetworkScheduler(config, results, searcher.heard(), searcher.on_prune)
        fit(searcher, scheduler, config, results, store, slots, check)
        if searcher.num_left:
            raise KeyboardInterrupt  # Tune returns as if all were done; the test patients must not be read now


def network_widths(config: StudyConfig) -> Widths:
    """Channels at full resolution: baselines get the width at which they cost what 3D_FCN_PPM costs."""
    net, shape = config.train.net, config.train.patch.shape
    ours = sorted({net.width, *(config.space.width or ())})
    scaled: Widths = {
        name: {width: equal_cost_width(name, net.model_copy(update={"width": width}), shape) for width in ours}
        for name in config.search.baselines
    }
    return {MAIN_NETWORK: {width: width for width in ours}, **scaled}


def _write_best(results: str, store: Store, outcome: Outcome, stitch: StitchConfig) -> None:
    """Write the winner's bundle: all members, the post-processing, and the atlases that find a kidney in a scan."""
    best = paths.best_folder(results)
    members = [paths.trial_folder(results, name) for name in outcome.winner.members]
    used = {"stitch": stitch, **outcome.post_processing.used_sections}
    copy_models(members, best, {"final": InferenceConfig.model_validate(used).model_dump(mode="json")})
    if store.manifest.atlas:
        storage.write_bytes(storage.join(best, ATLAS_FILE), store.read_beside(store.manifest.atlas))


if __name__ == "__main__":
    main()
