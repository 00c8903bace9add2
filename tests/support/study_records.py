"""Files of trials and repeats, written without training, and the searcher that is told about them."""

from pathlib import Path

import torch

from renalnet.config import NetName
from renalnet.nets.bundle import save_model
from renalnet.runtime import storage
from renalnet.train.checkpoint import Checkpoint, save_checkpoint
from renalnet.train.epochs import LOG_FILE, EpochRecord
from study.config.sections import Slots, StudyConfig
from study.records.results import Results
from study.records.trials import TrialRecord, write_record
from study.search.journal import open_journal
from study.search.searcher import NetworkSearch
from support.bundles import bundle_config

TRAIN = {
    "epochs": 5,
    "seed": 0,
    "loss": {"tumor": 2, "kidney": 1, "background": 0.2},
    # Not the paper's milestones, so that no trial is the paper's point.
    "optim": {"milestones": [3, 5, 6]},
}


def keep_epochs(results: Path, name: str, objectives: list[float], failure: str = "") -> None:
    """Write the log of a run: one epoch of half an hour for each objective, then a failed epoch if asked for."""
    epochs = [EpochRecord(n, 1.0, {"kidney": v, "tumor": v}, v, 0.1, 1800.0) for n, v in enumerate(objectives, start=1)]
    if failure:
        epochs.append(EpochRecord(len(epochs) + 1, 0.0, {"kidney": 0.0, "tumor": 0.0}, 0.0, 0.1, 1.0, failure))
    lines = "".join(storage.json_line(epoch.to_json()) + "\n" for epoch in epochs)
    storage.write_bytes(storage.join(Results(str(results)).trial_folder(name), LOG_FILE), lines.encode())


def keep_model(results: Path, name: str, weight: float = 0.0) -> None:
    """Write a model bundle of one weight."""
    save_model(Results(str(results)).trial_folder(name), {"w": torch.tensor([weight])}, bundle_config())


def keep_trial(
    results: Path, network: str, number: int, objectives: list[float], failure: str = "", has_model: bool = True
) -> TrialRecord:
    """Write an ended trial of the search: record, log and, if it finished an epoch, a model."""
    record = TrialRecord(number, network, "complete", {}, TRAIN, cpus=2)
    write_record(Results(str(results)), record)
    keep_epochs(results, record.name, objectives, failure)
    if objectives and has_model:
        keep_model(results, record.name, number)
    return record


def keep_repeat(results: Path, planned: TrialRecord, objectives: list[float], reason: str = "") -> None:
    """Write an ended repeat, which failed if there is a reason: record, log and, if it finished an epoch, a model."""
    write_record(Results(str(results)), planned.ended("failed" if reason else "complete", reason))
    keep_epochs(results, planned.name, objectives, reason)
    if objectives:
        keep_model(results, planned.name, sum(map(ord, planned.name)))


def keep_checkpoint(results: Path, name: str) -> None:
    """Write a checkpoint and a model of one weight, and the log of one epoch."""
    save_checkpoint(Results(str(results)).trial_folder(name), Checkpoint(1, {"w": torch.zeros(1)}, {}))
    keep_model(results, name)
    keep_epochs(results, name, [0.1])


WIDTHS: dict[NetName, dict[int, int]] = {"fcn_ppm": {4: 4}, "unet3d": {4: 4}, "pspnet2d": {4: 4}}


def searcher(config: StudyConfig, folder: Path) -> NetworkSearch:
    """A searcher of a results folder with two slots."""
    results = Results(str(folder))
    return NetworkSearch(config, results, open_journal(results), WIDTHS, Slots(1, 0.0, 2))


def end(search: NetworkSearch, folder: Path, trial_id: str, name: str, *objectives: float, failure: str = "") -> None:
    """Report a trial's epochs and its end to the searcher, as Ray does.

    Ray reports the last epoch of a pruned trial only with its end.
    """
    keep_epochs(folder, name, list(objectives), failure)
    for epoch, objective in enumerate(objectives[:-1], start=1):
        search.on_trial_result(trial_id, {"epoch": epoch, "objective": objective})
    search.on_trial_complete(trial_id, {"epoch": len(objectives)})
