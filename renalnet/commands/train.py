"""`renalnet train`: one training run without Ray."""

from typing import Annotated

import typer
from rich.console import Console

from renalnet.commands.line import LOST_RESOURCE, stop_signals
from renalnet.commands.options import NUM_WORKERS, Set
from renalnet.config.presets import TRAIN_PRESETS
from renalnet.runtime.progress_bars import step_progress


def train(
    store: Annotated[str, typer.Argument(help="A prepared store.")],
    out: Annotated[str, typer.Option(help="Folder of the run; the same command again resumes it.")],
    preset: Annotated[str, typer.Option(help=f"Start from: {', '.join(TRAIN_PRESETS)}.")] = "paper",
    set_: Set = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = NUM_WORKERS,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many steps, and forecast the rest.")
    ] = None,
) -> None:
    """Train one network on a store, without Ray. Interrupted, it goes on when the command is repeated.

    SIGTERM and Ctrl-C write a checkpoint first (exit codes 143 and 130); a run that is killed loses at most
    `checkpoint_every_s` seconds. Loss and Dice are in OUT/epochs.jsonl and OUT/tensorboard.
    """
    import torch

    from renalnet.config import override
    from renalnet.config.presets import train_preset
    from renalnet.data.batches.cohort import load_cohort
    from renalnet.data.localise.atlas import ATLAS_FILE
    from renalnet.data.store.reader import open_store
    from renalnet.runtime.lease import Lease
    from renalnet.runtime.machine import keep_memory
    from renalnet.runtime.storage import absolute, join, write_bytes
    from renalnet.train.run import TrainingRun
    from renalnet.train.watch import Watch

    torch.set_num_threads(threads)
    keep_memory()
    prepared = open_store(store)
    describe = {"roi": prepared.manifest.config.model_dump(mode="json"), "data": prepared.fingerprint}
    config = override(train_preset(preset), set_ or [])
    console = Console()
    folder = absolute(out)
    with Lease(join(folder, ".lease")), stop_signals() as stop, step_progress() as show:
        watch = Watch(console, show, lambda: stop.is_made, stop_after)
        run = TrainingRun(
            config,
            load_cohort(prepared, config.loader),
            folder,
            describe=describe,
            should_stop=watch.should_stop,
            on_step=watch.on_step,
        )
        watch.follow(run)
    if not run.is_finished:
        raise typer.Exit(stop.exit_code)
    best, failure = run.best, run.records[-1].failure
    if best and prepared.manifest.atlas:  # so that `predict` works with this folder alone
        write_bytes(join(out, ATLAS_FILE), prepared.read_beside(prepared.manifest.atlas))
    if best:
        console.print(f"best epoch {best.epoch}; model in {out}")
    if failure:
        console.print(f"{'the run ended early' if best else 'no epoch ended well'}: {failure}")
        raise typer.Exit(LOST_RESOURCE)
