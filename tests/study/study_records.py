"""Writes what a trial leaves behind, without training."""

from dataclasses import asdict
from pathlib import Path

import torch

from renalnet import storage
from renalnet.checkpoint import save_model
from renalnet.train import LOG_FILE, EpochRecord
from study import layout
from study.collect import TrialRecord, write_record

TRAIN = {
    "epochs": 5,
    "seed": 0,
    "loss": {"tumor": 2, "kidney": 1, "background": 0.2},
    "optim": {"milestones": [3, 5, 7]},
}


def keep_epochs(results: Path, name: str, objectives: list[float], failure: str = "") -> None:
    """The log of a run with one epoch of half an hour for each objective, and a failed one where asked."""
    epochs = [EpochRecord(n, 1.0, v, v, v, 0.1, 1800.0) for n, v in enumerate(objectives, start=1)]
    if failure:
        epochs.append(EpochRecord(len(epochs) + 1, 0.0, 0.0, 0.0, 0.0, 0.1, 1.0, failure))
    lines = "".join(storage.json_line(asdict(epoch)) + "\n" for epoch in epochs)
    storage.write_bytes(storage.join(layout.trial_folder(str(results), name), LOG_FILE), lines.encode())


def keep_model(results: Path, name: str, weight: float = 0.0) -> None:
    """A bundle of one weight."""
    save_model(layout.trial_folder(str(results), name), {"w": torch.tensor([weight])}, {})


def keep_trial(
    results: Path, network: str, number: int, objectives: list[float], failure: str = "", has_model: bool = True
) -> TrialRecord:
    """A trial of the search that has ended, with its log and, if it finished an epoch, a model."""
    record = TrialRecord(number, network, "complete", {}, TRAIN, cpus=2)
    write_record(str(results), record)
    keep_epochs(results, record.name, objectives, failure)
    if objectives and has_model:
        keep_model(results, record.name, number)
    return record


def keep_repeat(results: Path, planned: TrialRecord, objectives: list[float], reason: str = "") -> None:
    """A repeat that has ended, failed where there is a reason, with its log and, if it finished an epoch, a model."""
    write_record(str(results), planned.ended("failed" if reason else "complete", reason))
    keep_epochs(results, planned.name, objectives, reason)
    if objectives:
        keep_model(results, planned.name, sum(map(ord, planned.name)))
