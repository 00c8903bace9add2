"""Writes what a trial leaves behind, without training, and tells a searcher of it."""

from dataclasses import asdict
from pathlib import Path

import torch

from renalnet import storage
from renalnet.checkpoint import Checkpoint, save_checkpoint, save_model
from renalnet.train import LOG_FILE, EpochRecord
from renalnet.types import NetName
from study import layout
from study.config import Slots, StudyConfig
from study.search import NetworkSearch

TRAIN = {"epochs": 5, "loss": {"tumor": 2, "kidney": 1, "background": 0.2}, "optim": {"milestones": [3, 5, 7]}}


def keep_epochs(results: Path, name: str, objectives: list[float], failure: str = "") -> None:
    """The log of a run with one epoch of half an hour for each objective, and a failed one where asked."""
    epochs = [EpochRecord(n, 1.0, v, v, v, 0.1, 1800.0) for n, v in enumerate(objectives, start=1)]
    if failure:
        epochs.append(EpochRecord(len(epochs) + 1, 0.0, 0.0, 0.0, 0.0, 0.1, 1.0, failure))
    lines = "".join(storage.json_line(asdict(epoch)) + "\n" for epoch in epochs)
    storage.write_bytes(storage.join(layout.trial_folder(str(results), name), LOG_FILE), lines.encode())


def keep_checkpoint(results: Path, name: str) -> None:
    """Weights of one number, as a checkpoint and as a model, and an epoch's log."""
    folder, tensors = layout.trial_folder(str(results), name), {"w": torch.zeros(1)}
    save_checkpoint(folder, Checkpoint(1, tensors, {}))
    save_model(folder, tensors, {})
    keep_epochs(results, name, [0.1])


WIDTHS: dict[NetName, dict[int, int]] = {"fcn_ppm": {4: 4}, "unet3d": {4: 4}, "pspnet2d": {4: 4}}


def searcher(config: StudyConfig, folder: Path) -> NetworkSearch:
    return NetworkSearch(config, str(folder), str(folder / "optuna.journal"), WIDTHS, Slots(1, 0.0, 2))


def end(search: NetworkSearch, folder: Path, trial_id: str, name: str, *objectives: float, failure: str = "") -> None:
    """What Ray tells of a trial that ends: the last value of a pruned one comes with its end only."""
    keep_epochs(folder, name, list(objectives), failure)
    for epoch, objective in enumerate(objectives[:-1], start=1):
        search.on_trial_result(trial_id, {"epoch": epoch, "objective": objective})
    search.on_trial_complete(trial_id, {"epoch": len(objectives)})
