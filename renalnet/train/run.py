"""A training run in a folder: steps, validation and checkpoints.

A batch and its augmentation are functions of the seed and the step's number. The number of the next step is therefore
the position of the loader and the state of all random generators, and a checkpoint needs nothing else of them.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from renalnet.config import LoaderConfig, Section, TrainConfig, fingerprint, parse
from renalnet.config.labels import require_same_labels
from renalnet.data.batches.augmentation import Augmenter
from renalnet.data.batches.cohort import Cohort
from renalnet.data.batches.loader import BatchLoader
from renalnet.data.batches.tensors import TensorMaker
from renalnet.errors import CheckpointError, ConfigError, StoreError
from renalnet.nets import SegmentationNet, build_net
from renalnet.nets.bundle import MODEL_FILE, BundleConfig, save_model
from renalnet.nets.folded import folded
from renalnet.runtime import storage
from renalnet.runtime.device import is_out_of_memory, pick_device
from renalnet.runtime.log import get_logger
from renalnet.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from renalnet.train.epochs import DICE, EpochRecord, PartialEpoch, best_of, write_log
from renalnet.train.initial_weights import begin_with_bundle, pinned
from renalnet.train.state import differences, environment, put_tensors, tensors_of
from renalnet.train.step import (
    MEMORY_RAN_OUT,
    OUT_OF_MEMORY_AT_VALIDATION,
    PROBABILITIES_NOT_FINITE,
    Stepper,
    learning_rate,
)
from renalnet.train.validation import Validation

_log = get_logger(__name__)


@dataclass(frozen=True)
class StepReport:
    """A step whose loss is known."""

    epoch: int
    """Number of the epoch, from 1."""
    step: int
    """Number of the step within the epoch, from 1."""
    loss: float
    seconds: float
    """Time since the previous step, including waits for data and checkpoints."""


class TrainingRun:
    """A training run in a folder. Iterating trains the epochs that the folder does not have and yields their records.

    A killed run resumes from its newest checkpoint and ends with bit-identical weights, given the same kind of
    processor, the same PyTorch and the same number of threads. If these differ, it logs a warning.
    """

    def __init__(
        self,
        config: TrainConfig,
        cohort: Cohort,
        folder: str,
        *,
        describe: dict[str, Any] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[StepReport], None] = lambda _: None,
    ):
        """Start the run of `folder`, or resume it from its newest undamaged checkpoint.

        Args:
            config: configuration of the run. A folder with a checkpoint of another run is refused.
            cohort: decoded training and validation cases.
            folder: a local path or a URI.
            describe: values to add to the model's `config.json`, such as how its ROIs were made.
            should_stop: called between steps and between validation cases. When it returns true, the run writes a
                checkpoint and iterating ends, with `is_finished` false.
            on_step: called after each step.

        Raises:
            CheckpointError: the folder belongs to another run, all of its checkpoints are damaged, or the bundle
                `config.init` is missing or damaged.
            ConfigError: the store has other labels than the configuration, or the bundle `config.init` does not fit.
            StoreError: there is no training case or no validation case.
        """
        require_same_labels(cohort.labels, config.labels, "the store", "the configuration of the run", ConfigError)
        if not len(cohort.validation):
            raise StoreError("no validation ROI in the store; prepare it with a validation share, or --splits")
        # Only where no command has done so: a run that resumes needs its bundle no more.
        config = config if config.init_sha256 else pinned(config)
        self.config = config
        self.folder = folder
        self._cohort = cohort
        self._describe = describe or {}
        self._should_stop = should_stop
        self._on_step = on_step
        self.device = pick_device(config.precision)
        if self.device.emulates_bfloat16:
            _log.warning(
                "precision=bfloat16, but %s has no instructions for bfloat16, which is emulated and up to a hundred "
                "times slower than float32; leave precision at auto",
                self.device.torch_device.type,
            )
        self.net = self.device.place(build_net(config.net, config.labels, config.seed))
        augmenter = Augmenter(config.augment, cohort.normalisation, config.seed)
        tensors = TensorMaker(cohort.normalisation, self.device, augmenter)
        self._stepper = Stepper(self.net, config, self.device, tensors)
        for_gpu = self.device.torch_device.type == "cuda"
        self._loader = BatchLoader(cohort.train, config, fill_hu=cohort.normalisation.hu_min, for_gpu=for_gpu)
        self.validation = Validation(
            cohort.validation, cohort.normalisation, config.labels, config.stitch, config.max_validation_cases
        )
        self.records: list[EpochRecord] = []
        self.partial = PartialEpoch()
        self._clock_s = 0.0
        self._unsaved_s = 0.0
        self._unreported_s = 0.0
        self._waited_s = 0.0
        self._resume()

    def __iter__(self) -> Iterator[EpochRecord]:
        while not (self.is_finished or self._should_stop()):
            record = self._train_epoch()
            if record is None:
                return
            self._end_epoch(record)
            yield record

    @property
    def step(self) -> int:
        """Number of finished steps, which is the number, from 0, of the next step."""
        num_ended = sum(not record.failure for record in self.records)
        return num_ended * self.config.steps_per_epoch + self.partial.steps

    @property
    def voxels_per_step(self) -> int:
        """Number of voxels in the crops of a step."""
        return self.config.optim.batch_size * math.prod(self.config.patch.shape)

    @property
    def is_compiled(self) -> bool:
        """Whether the network is compiled for training."""
        return self._stepper.forward.is_compiled

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended: all epochs are done, or the last one failed."""
        return len(self.records) >= self.config.epochs or bool(self.records and self.records[-1].failure)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the highest objective, the first of equals; None if no epoch has ended without failure."""
        return best_of(self.records)

    def _train_epoch(self) -> EpochRecord | None:
        """Train the rest of the current epoch. Return None if the run was asked to stop before its end."""
        epoch = len(self.records) + 1
        rate = learning_rate(self.config, epoch)
        # Anew for each epoch, because the caller may have spent any time since the last one ended.
        self._clock_s = time.monotonic()
        self._stepper.begin_epoch(rate)
        self._make_steps()
        is_trained = self.partial.steps == self.config.steps_per_epoch
        is_validated = is_trained and self._validate()
        failure = self._stepper.failure
        if failure:
            where = "its validation" if is_trained else f"step {self.partial.steps + 1}"
            return self.partial.failed(
                self.config.labels, epoch, rate, f"{failure.what} in epoch {epoch}, {where}; {failure.remedy}"
            )
        if not is_validated:
            self._save()
            return None
        return self.partial.ended(epoch, rate, self.voxels_per_step, self.config.labels)

    def _make_steps(self) -> None:
        """Make the remaining steps of the epoch, until a failure or a request to stop."""
        num_steps = self.config.steps_per_epoch - self.partial.steps
        for batch in self._loader.batches(self.step, num_steps):
            losses = self._stepper.step(batch)
            # Before the count, so that the report of a step includes its time.
            self._look_after_step()
            self._count(losses)
            if self._stepper.failure or self._should_stop():
                break
            if self._is_checkpoint_due:
                self._save()
        # On a GPU, the loss of the last step is not known yet.
        self._count(self._stepper.flush())

    def _count(self, losses: Iterable[float]) -> None:
        for loss in losses:
            self.partial.add(loss)
            self._on_step(StepReport(len(self.records) + 1, self.partial.steps, loss, self._unreported_s))
            self._unreported_s = 0.0

    def _validate(self) -> bool:
        """Score the remaining validation cases. Return whether all are scored, without failure or a request to stop."""
        scores = self.partial.scores
        net = folded(self.net, self.device.dtype)  # as in the final stage
        while len(scores) < self.validation.num_cases:
            if self._should_stop():
                return False
            if self._is_checkpoint_due:
                self._save()
            score = self._score(len(scores), net)
            if score is None:
                return False
            scores.append(score)
            self.partial.validated_s += self._seconds()
        return True

    def _score(self, number: int, net: SegmentationNet) -> tuple[float, ...] | None:
        """Return the Dice of each label of a validation case; if this fails, set the run's failure and return None."""
        try:
            score = self.validation.score(number, net, self.device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._stepper.failure = OUT_OF_MEMORY_AT_VALIDATION
            return None
        if score is None:
            self._stepper.failure = PROBABILITIES_NOT_FINITE
        return score

    def _seconds(self) -> float:
        """Return the time since the previous call, and add it to the time that no checkpoint covers."""
        now = time.monotonic()
        passed = now - self._clock_s
        self._clock_s = now
        self._unsaved_s += passed
        return passed

    def _look_after_step(self) -> None:
        seconds = self._seconds()
        self._unreported_s += seconds
        self.partial.trained_s += seconds
        # The loader counts over all epochs of the process.
        self.partial.waited_s += self._loader.waited_s - self._waited_s
        self._waited_s = self._loader.waited_s

    @property
    def _is_checkpoint_due(self) -> bool:
        return self._unsaved_s >= self.config.checkpoint_every_s

    def _end_epoch(self, record: EpochRecord) -> None:
        """Write the results of an epoch. The checkpoint is first: from it, a resumed run writes model and log again."""
        self.records.append(record)
        # After a failure it is kept: a run that memory ended resumes from it.
        if not record.failure:
            self.partial = PartialEpoch()
        self._save()
        self._write_results()

    def _write_results(self) -> None:
        """Write the log, and the model if the checkpoint is at the end of the best epoch."""
        if self.records and not self.partial.steps and self.records[-1] is self.best:
            save_model(self.folder, dict(self.net.state_dict()), self._bundle_config(self.records[-1]))
        write_log(self.folder, self.records)

    def _save(self) -> None:
        """Write a checkpoint. A pending step that turns out to have failed is seen at the next check of `failure`."""
        self._count(self._stepper.flush())
        save_checkpoint(self.folder, Checkpoint(self.step, tensors_of(self._stepper), self._meta()))
        self._unsaved_s = 0.0

    def _meta(self) -> dict[str, Any]:
        return {
            "run": self._run_fingerprint(),
            "step": self.step,
            "environment": environment(self._stepper, self.device),
            "micro_batch": self._stepper.micro_batch,
            "partial": asdict(self.partial),
            "records": [record.to_json() for record in self.records],
        }

    def _bundle_config(self, record: EpochRecord) -> BundleConfig:
        values = {
            "train": self.config,
            "normalisation": self._cohort.normalisation,
            "device": str(self.device),
            "epoch": record.epoch,
            "validation": {DICE + name: dice for name, dice in record.dice.items()},
            **self._describe,
        }
        return parse(BundleConfig, values)

    def _run_fingerprint(self) -> str:
        """Return the fingerprint of everything that decides the weights, up to the rounding of the environment.

        A longer run is the same run, and so is one with other times of checkpoints or with compiled code.
        """
        # The other fields of the loader do not change which crops are drawn.
        loader = LoaderConfig(window=self.config.loader.window, visit=self.config.loader.visit)
        free = {"epochs": 1, "checkpoint_every_s": 0.0, "compile": "auto", "loader": loader}
        same_run: Section = self.config.model_copy(update=free)
        return f"{fingerprint(same_run)}-{self._cohort.fingerprint}"

    def _resume(self) -> None:
        found = load_checkpoint(self.folder)
        if found is None:
            self._require_no_model()
            begin_with_bundle(self.net, self.config)
        else:
            self._require_same_run(found)
            records = [EpochRecord.from_json(record) for record in found.meta["records"]]
            # More memory may be free now, and the checkpoint is from before the step that did not fit.
            self.records = [record for record in records if not record.failure.startswith(MEMORY_RAN_OUT)]
            self.partial = PartialEpoch(**found.meta["partial"])
            self._stepper.micro_batch = found.meta["micro_batch"]
            put_tensors(self._stepper, found.tensors)
            # The kill may have come between the checkpoint and these files.
            self._write_results()

    def _require_no_model(self) -> None:
        """Refuse a folder with a model but no checkpoint, such as `best` of a study: its model would be overwritten."""
        if storage.exists(storage.join(self.folder, MODEL_FILE)):
            raise CheckpointError(
                f"{self.folder} holds a model ({MODEL_FILE}) but no checkpoint; choose an empty folder"
            )

    def _require_same_run(self, found: Checkpoint) -> None:
        if found.meta["run"] != self._run_fingerprint():
            raise CheckpointError(
                f"{self.folder} holds another run (its configuration or data differ); choose an empty folder"
            )
        changed = differences(found.meta["environment"], environment(self._stepper, self.device))
        if changed:
            _log.warning("%s resumes in another environment and will not repeat bit for bit (%s)", self.folder, changed)
