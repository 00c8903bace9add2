"""`renalnet train`: one training run without Ray."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from renalnet.commands.line import LOST_RESOURCE, stop_signals
from renalnet.commands.options import Set, StorePath, TrainPreset
from renalnet.config import TrainConfig, chosen_labels, override
from renalnet.config.labels import require_same_labels
from renalnet.config.presets import chosen_preset, train_preset
from renalnet.errors import ConfigError
from renalnet.runtime.lease import Lease
from renalnet.runtime.machine import keep_memory, num_threads
from renalnet.runtime.progress_bars import step_progress
from renalnet.runtime.storage import absolute, join

if TYPE_CHECKING:
    from renalnet.data.store.reader import Store
    from renalnet.train.run import TrainingRun


def train(
    store: StorePath,
    out: Annotated[str, typer.Option(help="Folder of the run. The same command again resumes it.")],
    preset: TrainPreset = None,
    set_: Set = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of processor threads.")] = num_threads(),
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop after this number of steps, and print how long the rest will take.")
    ] = None,
) -> None:
    """Train one network on a store, without Ray. After an interruption, the same command resumes the run.

    SIGTERM and Ctrl-C write a checkpoint before the command ends, with exit code 143 or 130. A run that is killed loses
    at most `checkpoint_every_s` seconds. Loss and Dice are in OUT/epochs.jsonl and OUT/tensorboard.
    """
    import torch

    from renalnet.data.store.reader import open_store
    from renalnet.train.initial_weights import pinned

    torch.set_num_threads(threads)
    keep_memory()  # before the first tensors, because blocks that are mapped already stay so
    prepared = open_store(store)
    labels = chosen_labels(set_ or [])
    chosen = chosen_preset(preset, prepared.manifest.config, store)
    config = override(train_preset(chosen, labels), set_ or [])
    # Before the lease, which creates the folder of the run.
    require_same_labels(prepared.labels, config.labels, store, "the configuration", ConfigError)
    config = pinned(config)
    # A path may hold square brackets, which rich reads as markup, and a wrapped path cannot be copied.
    console = Console(markup=False, soft_wrap=True, highlight=False)
    if preset is None:
        console.print(f"preset {chosen}, which has the grid of {store}")
    run, exit_code = _train(config, prepared, absolute(out), stop_after, console)
    if not run.is_finished:
        raise typer.Exit(exit_code)
    _end(run, prepared, out, console)


def _train(
    config: TrainConfig, store: "Store", folder: str, stop_after: int | None, console: Console
) -> "tuple[TrainingRun, int]":
    """Train until the run ends or is stopped. Return the run, and the exit code of the signal that stopped it."""
    from renalnet.data.batches.cohort import load_cohort
    from renalnet.train.run import TrainingRun
    from renalnet.train.watch import Watch

    # The lease comes first: while it waits for a silent holder, Ctrl-C still ends the command at once.
    with Lease(join(folder, ".lease")), stop_signals() as stop, step_progress() as show:
        watch = Watch(console, show, lambda: stop.is_made, stop_after)
        run = TrainingRun(
            config,
            load_cohort(store, config.loader),
            folder,
            describe=_origin(store),
            should_stop=watch.should_stop,
            on_step=watch.on_step,
        )
        watch.follow(run)
    return run, stop.exit_code


def _origin(store: "Store") -> dict[str, object]:
    """Return what a model bundle keeps of its store: how ROIs were cut, and from which data."""
    return {"roi": store.manifest.config.model_dump(mode="json"), "data": store.fingerprint}


def _end(run: "TrainingRun", store: "Store", out: str, console: Console) -> None:
    """Complete the model bundle of a finished run. Raises typer.Exit with code 1 if the run ended early."""
    from renalnet.inference.quality_file import write_quality
    from renalnet.localiser.bundle_files import write_finder_files

    best = run.best
    failure = run.records[-1].failure
    if best:
        write_finder_files(store, out)  # with them, the folder is all that `predict` needs
        write_quality(out, store)
        console.print(f"best epoch {best.epoch}; model in {out}")
    if failure:
        console.print(f"{'the run ended early' if best else 'no epoch ended well'}: {failure}")
        raise typer.Exit(LOST_RESOURCE)
