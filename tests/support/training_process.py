"""A training run in a process of its own. This module imports no pytest, which takes longer than several steps."""

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from renalnet.config import TrainConfig
from renalnet.data.batches.cohort import load_cohort
from renalnet.data.store.reader import Store, open_store
from renalnet.train.run import TrainingRun
from support.commands import CONTEXT


def start_training(config: TrainConfig, store: Store, folder: Path) -> tuple[Any, Connection]:
    """Return the process, and the connection by which it tells the step at its start, then the number of each step."""
    ours, theirs = CONTEXT.Pipe()
    child = CONTEXT.Process(target=_train, args=(config, store.path, str(folder), theirs))
    child.start()
    theirs.close()
    return child, ours


def _train(config: TrainConfig, store: str, folder: str, steps: Connection) -> None:
    torch.set_num_threads(1)
    cohort = load_cohort(open_store(store))
    run = TrainingRun(config, cohort, folder, on_step=lambda _: steps.send(run.step))
    steps.send(run.step)
    list(run)
    cohort.close()
