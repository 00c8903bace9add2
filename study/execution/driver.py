"""The driver of a study: the cohort, the search, the repeats and the final stage, one after the other."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from renalnet.config import MAIN_NETWORK, InferenceConfig, NetName
from renalnet.data.store.reader import Store
from renalnet.errors import DiskError, LostError
from renalnet.inference.quality_file import LearnedQuality, write_quality
from renalnet.localiser.bundle_files import write_finder_files
from renalnet.nets.bundle import copy_models, read_config
from renalnet.nets.describe import equal_cost_width
from renalnet.runtime import storage
from renalnet.runtime.log import get_logger
from study.config.sections import Slots, StudyConfig
from study.execution.cohort import embedded_store, given_store, report_cases
from study.execution.connection import connected
from study.execution.repeat_searcher import run_repeats
from study.execution.slots import find_cluster, find_slots, total_resources
from study.execution.tasks import FinalWork, measure_on_slot
from study.execution.tuner import fit
from study.final.best import replace_best
from study.final.headline import failures, winner_rows
from study.final.model_card import model_card
from study.final.quality import learned_quality
from study.final.stage import Outcome, run_final
from study.finalists.finalists import damaged_models
from study.finalists.selection import earlier_readings
from study.integrity.completion import enter_tables, keep_texts
from study.integrity.mending import mend_manifest, mend_study
from study.progress.forecast_text import forecast_lines
from study.progress.trial_cost import MeasureJob
from study.records.ledger import Ledger
from study.records.manifest import StudyManifest, known_study
from study.records.results import JOURNAL, Results
from study.records.trials import write_tables
from study.search.importance.write import write_importances
from study.search.journal import open_journal
from study.search.searcher import NetworkSearch
from study.search.trial_counts import count_repeats

Widths: TypeAlias = dict[NetName, dict[int, int]]
"""For each network, its own width for each width of 3D_FCN_PPM."""
_log = get_logger(__name__)


def forecast_study(config: StudyConfig, store_path: str | None) -> Iterator[str]:
    """Yield what a configuration means and takes on the cluster at hand, one line each. Nothing is written.

    Args:
        config: the whole study.
        store_path: the store; None to measure on phantoms.
    """
    with connected():
        slots = find_slots(config.resources)
        widths = _own_widths(config, network_widths(config))
        _log.info("measuring some steps of each network")
        measured = measure_on_slot(MeasureJob(config, widths, store_path, slots.cpus), slots)
        yield from forecast_lines(config, find_cluster(), slots, measured)


def run_study(config: StudyConfig, results: Results, store_path: str | None, check: Callable[[], None]) -> None:
    """Run a study up to its report, within `storage_may_fail`; a study that was interrupted goes on.

    Args:
        config: the whole study.
        results: the results folder, whose lease this process holds.
        store_path: the store; None for the synthetic cohort.
        check: called regularly; raises where another driver has taken over the folder.

    Raises:
        ResultsError: the folder holds another study, or no trial of 3D_FCN_PPM has a trained network.
    """
    # Before Ray: a folder that holds another study, or another store, is refused without waiting for a cluster.
    mend_manifest(results)
    known_study(results, config, store_path)
    # Before the manifest, which is written then: where a file has no other copy, nothing may be overwritten.
    mend_study(results)
    manifest = StudyManifest(results, config, store_path)
    # After all that may be refused, which is one line. What follows takes seconds before the first trial runs.
    _log.info("study of preset %s in %s", config.preset, results)
    store = given_store(manifest, store_path) if store_path else embedded_store(manifest, config, results)
    report_cases(config, store)
    _log.info("starting Ray, or joining the cluster of RAY_ADDRESS")
    with connected() as dashboard:
        manifest.update(ray_dashboard=dashboard)
        slots = find_slots(config.resources)
        _log.info("Ray is ready; trials that run at once: %d", slots.num_slots)
        _Stages(config, results, store, slots, manifest, check).run()


@contextmanager
def storage_may_fail(results: Results) -> Iterator[None]:
    """Within the block, turn errors of the storage into those of this project.

    Raises:
        LostError: an object store stopped answering.
        DiskError: a disk is full, read-only or failing.
    """
    try:
        yield
    except OSError as error:
        if fault := storage.disk_fault(error):
            raise DiskError(f"{results}: what is finished is kept, but the study cannot go on: {fault}") from error
        # Other errors of the local system have a number, too, and the command line translates them.
        if error.errno is not None or not storage.is_remote(results.folder):
            raise
        raise LostError(
            f"{results}: the storage failed during the study ({error}); only the epochs under way are lost; repeat the "
            "command when the storage answers again"
        ) from error


@dataclass(frozen=True)
class _Stages:
    """The stages of a study that run on the cluster."""

    config: StudyConfig
    results: Results
    store: Store
    slots: Slots
    manifest: StudyManifest
    check: Callable[[], None]

    def run(self) -> None:
        """Run the stages that are not finished."""
        widths = network_widths(self.config)
        fake = {"are_gpus_fake": True} if self.slots.are_gpus_fake else {}
        machine = {**total_resources(), "num_slots": self.slots.num_slots, **fake}
        self.manifest.update(machine=machine, widths=_own_widths(self.config, widths))
        with self.manifest.timed("search"):
            self._search(widths)
        Ledger(self.results).add([JOURNAL])
        # The searcher writes the tables at intervals, and not at all where no trial is left.
        write_tables(self.results)
        write_importances(self.results, self.config.train.epochs)
        if sum(count_repeats(self.config).values()):
            with self.manifest.timed("repeats"):
                run_repeats(self.config, self.results, self.store, self.slots, self.check)
        self._finish(self._final(), machine)

    def _search(self, widths: Widths) -> None:
        """Run every trial that has not ended."""
        with closing(open_journal(self.results)) as journal:
            searcher = NetworkSearch(self.config, self.results, journal, widths, self.slots)
            if searcher.num_left == 0:
                return
            counts = (searcher.num_left, searcher.num_planned, self.slots.num_slots)
            _log.info("%d of %d trials to run, %d at a time", *counts)
            fit(searcher, searcher.scheduler, self.config, self.results, self.store, self.slots, self.check)
            if searcher.num_left:
                # After SIGUSR1, Tune returns as if all trials were done. The test cases must not be read then.
                raise KeyboardInterrupt

    def _final(self) -> Outcome:
        """Run the final stage, and write the winner's bundle."""
        # The search checks once a minute only, and what follows reads the test cases.
        self.check()
        with self.manifest.timed("final"):
            _log.info("final stage: full inference on validation, then on test cases")
            self.manifest.warn(damaged_models(self.results, self.config))
            outcome = run_final(self.config, self.results, self.store, FinalWork(self.slots, self.check))
            replace_best(self.results, partial(self._build_best, outcome))
        failed = failures(winner_rows(self.results.measurements() or []), self.config.labels)
        self.manifest.warn([*failed, *outcome.warnings, *earlier_readings(self.results)])
        return outcome

    def _build_best(self, outcome: Outcome, folder: str) -> None:
        """Write the winner's bundle: its members, their post-processing, what finds kidneys, its quality, its card."""
        members = [self.results.trial_folder(name) for name in outcome.winner.members]
        # The bundle predicts in the way in which the winner was measured.
        used = {"stitch": self.config.final.stitch, **outcome.post_processing.used_sections}
        copy_models(members, folder, InferenceConfig.model_validate(used))
        write_finder_files(self.store, folder)
        write_quality(folder, self.store, self._learned_quality(outcome))
        card = model_card(self.results, folder, outcome.winner.name)
        storage.write_bytes(storage.join(folder, "README.md"), card.encode())

    def _learned_quality(self, outcome: Outcome) -> LearnedQuality | None:
        measured = self.results.measurements() or []
        study = self.config.preset
        synthetic = self.store.manifest.synthetic
        return learned_quality(self.results, outcome.winner, measured, study=study, synthetic=synthetic)

    def _finish(self, outcome: Outcome, machine: dict[str, Any]) -> None:
        """Enter the tables into the ledger, then mark the study as finished."""
        enter_tables(self.results, outcome.chosen)
        device = read_config(self.results.best_folder).device
        self.manifest.update(finished=True, winner=outcome.winner.name, machine={**machine, "device": device})
        keep_texts(self.results)


def network_widths(config: StudyConfig) -> Widths:
    """Return each network's channels at full resolution; a baseline gets the width at which it costs as much."""
    net = config.train.net
    shape = config.train.patch.shape
    # The configured width too, because it is that of every trial if no widths are searched.
    ours = sorted({net.width, *(config.space.width or ())})
    scaled: Widths = {
        name: {
            width: equal_cost_width(name, net.model_copy(update={"width": width}), config.labels, shape)
            for width in ours
        }
        for name in config.search.baselines
    }
    return {MAIN_NETWORK: {width: width for width in ours}, **scaled}


def _own_widths(config: StudyConfig, widths: Widths) -> dict[NetName, int]:
    """Return each network's width at the configured width of 3D_FCN_PPM."""
    return {network: own[config.train.net.width] for network, own in widths.items()}
