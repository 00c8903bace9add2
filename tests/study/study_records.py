"""Writes what a trial leaves behind, without training."""

from dataclasses import asdict
from pathlib import Path

from renalnet import storage
from renalnet.train import LOG_FILE, EpochRecord
from study import layout

TRAIN = {"epochs": 5, "loss": {"tumor": 2, "kidney": 1, "background": 0.2}, "optim": {"milestones": [3, 5, 7]}}


def keep_epochs(results: Path, name: str, objectives: list[float], failure: str = "") -> None:
    """The log of a run with one epoch of half an hour for each objective, and a failed one where asked."""
    epochs = [EpochRecord(n, 1.0, v, v, v, 0.1, 1800.0) for n, v in enumerate(objectives, start=1)]
    if failure:
        epochs.append(EpochRecord(len(epochs) + 1, 0.0, 0.0, 0.0, 0.0, 0.1, 1.0, failure))
    lines = "".join(storage.json_line(asdict(epoch)) + "\n" for epoch in epochs)
    storage.write_bytes(storage.join(layout.trial_folder(str(results), name), LOG_FILE), lines.encode())
