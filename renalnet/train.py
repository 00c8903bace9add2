"""One training run: a plain loop over epochs that validates, checkpoints and resumes; it knows nothing of Ray."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from renalnet import checkpoint as checkpoints
from renalnet import storage
from renalnet.checkpoint import Checkpoint
from renalnet.config import LoaderConfig, Section, StitchConfig, TrainConfig, fingerprint
from renalnet.data.augment import Augmenter
from renalnet.data.cohort import Cohort
from renalnet.data.feed.patients import Patient
from renalnet.data.feed.tensors import TensorMaker
from renalnet.data.loader import Batch, PatchLoader
from renalnet.device import Device, pick_device
from renalnet.errors import CheckpointError, StoreError
from renalnet.infer.stitch import Stitched, stitch
from renalnet.log import get_logger
from renalnet.losses import supervised_loss
from renalnet.metrics.overlap import dice
from renalnet.nets import SegmentationNet, build_net
from renalnet.types import KIDNEY, TUMOR, FloatArray

LOG_FILE = "epochs.jsonl"
_log = get_logger(__name__)


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch reports. Every value is finite."""

    epoch: int
    """From 1."""
    loss: float
    """Mean weighted cross-entropy of the epoch's steps."""
    dice_kidney: float
    """Mean over validation patients, by stitched inference without post-processing."""
    dice_tumor: float
    """As `dice_kidney`."""
    objective: float
    """Mean of the two; what the search maximises."""
    learning_rate: float
    """Of this epoch."""
    seconds: float
    """Training and validation of this epoch."""
    failure: str = ""
    """Why the run ends here, where it cannot go on; empty otherwise."""
    data_wait_share: float = 0.0
    """Part of the time of the epoch's training steps that was spent waiting for batches, 0-1; 0 in a record of before
    it was measured."""


class TrainingRun:
    """A run in a folder. Iterating trains the epochs that the folder does not hold yet and yields each one's record."""

    def __init__(self, config: TrainConfig, cohort: Cohort, folder: str, *, describe: dict[str, Any] | None = None):
        """Start the run of `folder`, or go on from its newest whole checkpoint.

        Args:
            config: the run; a folder that holds another run's checkpoint is refused.
            cohort: decoded training and validation patients.
            folder: any path that `storage` knows.
            describe: values to keep in the model's `config.json`, such as how its ROIs were cut.

        Raises:
            CheckpointError: the folder belongs to another run.
            StoreError: there is no training or no validation patient.
        """
        if not len(cohort.validation):
            raise StoreError("no validation ROI in the store; prepare it with a validation share, or --splits")
        self.config = config
        self.folder = folder
        self._cohort = cohort
        self._describe = describe or {}
        self._device = pick_device(config.precision)
        self._net = self._device.place(build_net(config.net, config.seed))
        self._optimizer = torch.optim.SGD(
            self._net.parameters(),
            lr=config.optim.base_rate,
            momentum=config.optim.momentum,
            weight_decay=config.optim.weight_decay,
        )
        self._loader = PatchLoader(
            cohort.train,
            config,
            fill_hu=cohort.normalisation.hu_min,
            for_gpu=self._device.torch_device.type == "cuda",
        )
        augmenter = Augmenter(config.augment, cohort.normalisation, config.seed)
        self._tensors = TensorMaker(cohort.normalisation, self._device, augmenter)
        self.records: list[EpochRecord] = []
        self._resume()

    def __iter__(self) -> Iterator[EpochRecord]:
        while len(self.records) < self.config.epochs and not (self.records and self.records[-1].failure):
            record = self._train_epoch(len(self.records) + 1)
            self.records.append(record)
            self._save(record)
            yield record

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the highest objective, the first of equals; none before an epoch has ended well."""
        ended = [record for record in self.records if not record.failure]
        return max(ended, key=lambda record: record.objective, default=None)

    def _train_epoch(self, epoch: int) -> EpochRecord:
        started, waited_before_s = time.monotonic(), self._loader.waited_s
        rate = learning_rate(self.config, epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._net.train()
        steps = self.config.steps_per_epoch
        losses: list[float] = []
        failure = ""
        for batch in self._loader.batches((epoch - 1) * steps, steps):
            loss = self._step(batch)
            if not math.isfinite(loss):
                failure = f"loss or gradient not finite in epoch {epoch}, step {len(losses) + 1}"
                break
            losses.append(loss)
        trained_s, waited_s = time.monotonic() - started, self._loader.waited_s - waited_before_s
        wait_share = waited_s / trained_s if trained_s else 0.0
        if failure:
            return EpochRecord(epoch, 0.0, 0.0, 0.0, 0.0, rate, trained_s, failure, wait_share)
        kidney, tumor = self._validate()
        seconds, objective = time.monotonic() - started, (kidney + tumor) / 2
        return EpochRecord(epoch, float(np.mean(losses)), kidney, tumor, objective, rate, seconds, "", wait_share)

    def _step(self, batch: Batch) -> float:
        """One step of SGD; the loss, or NaN (and no step) where loss or gradient is not finite."""
        image, label = self._tensors(batch)
        with self._device.autocast():
            outputs = self._net.training_logits(image)
        loss = supervised_loss(outputs, label, self.config.loss.weights)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._net.parameters(), self.config.optim.clip_norm)
        if not torch.isfinite(loss + norm):
            return math.nan
        self._optimizer.step()
        return float(loss.detach())

    def _validate(self) -> tuple[float, float]:
        """Mean Dice of kidney and tumor over the validation patients."""
        patients = self._cohort.validation
        num_cases = min(self.config.max_validation_cases or len(patients), len(patients))
        scores = []
        for number in range(num_cases):
            patients.want(range(number, min(number + 2, num_cases)))  # the next is decoded meanwhile
            scores.append(self._validate_patient(patients[number]))
        kidney, tumor = np.mean(scores, axis=0)
        return float(kidney), float(tumor)

    def _validate_patient(self, patient: Patient) -> tuple[float, float]:
        image = self._cohort.normalisation.apply(patient.image)
        labels = segment(self._net, image, self.config.stitch, self._device).labels
        return dice(patient.label == KIDNEY, labels == KIDNEY), dice(patient.label == TUMOR, labels == TUMOR)

    def _save(self, record: EpochRecord) -> None:
        weights = dict(self._net.state_dict())
        if record is self.best:
            checkpoints.save_model(self.folder, weights, self._bundle_config(record))
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()} | self._momentum()
        checkpoints.save_checkpoint(self.folder, Checkpoint(record.epoch, tensors, self._meta()))
        self._write_log()

    def _write_log(self) -> None:
        lines = "".join(f"{storage.json_line(asdict(entry))}\n" for entry in self.records)
        storage.write_bytes(storage.join(self.folder, LOG_FILE), lines.encode())

    def _momentum(self) -> dict[str, Tensor]:
        state = self._optimizer.state
        named = self._net.named_parameters()
        return {f"momentum.{name}": state[p]["momentum_buffer"] for name, p in named if p in state}

    def _meta(self) -> dict[str, Any]:
        return {
            "run": self._run_fingerprint(),
            "threads": torch.get_num_threads(),
            "records": [asdict(record) for record in self.records],
        }

    def _bundle_config(self, record: EpochRecord) -> dict[str, Any]:
        return {
            "train": self.config.model_dump(mode="json"),
            "normalisation": asdict(self._cohort.normalisation),
            "device": str(self._device),
            "epoch": record.epoch,
            "validation": {"dice_kidney": record.dice_kidney, "dice_tumor": record.dice_tumor},
            **self._describe,
        }

    def _run_fingerprint(self) -> str:
        """Of all that decides the weights; more epochs of the same run are the same run."""
        loader = LoaderConfig(window=self.config.loader.window, visit=self.config.loader.visit)
        same_run: Section = self.config.model_copy(update={"epochs": 1, "loader": loader})
        return f"{fingerprint(same_run)}-{self._cohort.fingerprint}"

    def _resume(self) -> None:
        found = checkpoints.load_checkpoint(self.folder)
        if found is None:
            return
        if found.meta["run"] != self._run_fingerprint():
            raise CheckpointError(
                f"{self.folder} holds another run (its configuration or data differ); choose an empty folder"
            )
        if found.meta["threads"] != torch.get_num_threads():
            _log.warning(
                "%s was trained with %d threads and goes on with %d: it will not repeat bit for bit",
                self.folder,
                found.meta["threads"],
                torch.get_num_threads(),
            )
        self.records = [EpochRecord(**record) for record in found.meta["records"]]
        prefix = "model."
        model = {key.removeprefix(prefix): value for key, value in found.tensors.items() if key.startswith(prefix)}
        self._net.load_state_dict(model)
        self._write_log()  # a run that was killed behind its last checkpoint has one line too few
        for name, parameter in self._net.named_parameters():
            buffer = found.tensors.get(f"momentum.{name}")
            if buffer is not None:
                self._optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """The multistep schedule: the base rate, multiplied by `rate_decay` after each milestone (epoch from 1)."""
    passed = sum(epoch > milestone for milestone in config.optim.milestones)
    return config.optim.base_rate * config.optim.rate_decay**passed


def segment(net: SegmentationNet, image: FloatArray, config: StitchConfig, device: Device) -> Stitched:
    """Stitched inference over a normalised ROI (z, y, x), the same in training and in the final stage (paper, II.B)."""
    net.eval()

    def forward(tile: Tensor) -> Tensor:
        with device.autocast():
            logits: Tensor = net(device.tensor(tile))
        return logits.float()

    return stitch(forward, image, config, device=device.torch_device)
