"""One step of training, with as many crops at a time as fit into memory, and without damage to the weights.

On a GPU, the loss of a step is read only after the next step has been started, and nothing else waits for the GPU. In
the meantime the weights are safe: a loss or gradient that is not finite sets a flag on the device. The optimiser reads
the flag there and does not change the weights from then on.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from renalnet.config import TrainConfig
from renalnet.data.batches.loader import Batch
from renalnet.data.batches.tensors import TensorMaker
from renalnet.nets import SegmentationNet
from renalnet.runtime.device import Device, is_out_of_memory
from renalnet.runtime.log import get_logger
from renalnet.train.forward import TrainingForward
from renalnet.train.losses.supervision import loss_of, supervised_loss
from renalnet.train.memory import BufferHistory
from renalnet.train.optimizers import optimizer_of

_log = get_logger(__name__)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Return the learning rate of an epoch, from 1: the base rate times `rate_decay` for each passed milestone."""
    passed = sum(epoch > milestone for milestone in config.optim.milestones)
    return config.optim.base_rate * config.optim.rate_decay**passed


@dataclass(frozen=True)
class Failure:
    """Reason why training cannot continue, and the remedy."""

    what: str
    remedy: str


_LOWER_THE_RATE: Final = "lower optim.base_rate"
LOSS_NOT_FINITE: Final = Failure("the loss is not finite", _LOWER_THE_RATE)
GRADIENT_NOT_FINITE: Final = Failure("the gradient is not finite", _LOWER_THE_RATE)
PROBABILITIES_NOT_FINITE: Final = Failure("the network's probabilities are not finite", _LOWER_THE_RATE)
MEMORY_RAN_OUT: Final = "memory ran out"
"""Start of the message of failures that may not occur again when the command is repeated."""
OUT_OF_MEMORY: Final = Failure(
    f"{MEMORY_RAN_OUT} with one crop at a time", "lower net.width or patch.shape, or free memory"
)
OUT_OF_MEMORY_AT_VALIDATION: Final = Failure(
    f"{MEMORY_RAN_OUT} with one sub-volume at a time", "lower net.width or stitch.tile, or free memory"
)


class Stepper:
    """The network and the optimiser of a run.

    Each step returns the losses that are known by then. When `failure` is set, no step can follow.
    """

    def __init__(self, net: SegmentationNet, config: TrainConfig, device: Device, tensors: TensorMaker) -> None:
        self.net = net
        self._config = config
        self._device = device
        self._tensors = tensors
        self.forward = TrainingForward(net, device, config.compile)
        self.optimizer = optimizer_of(net, config.optim)
        self._is_bad = torch.zeros((), device=device.torch_device)
        """Flag that is 1 after the first loss or gradient that is not finite."""
        # PyTorch's gradient scaler sets this attribute. If it is 1, the fused optimiser changes nothing (torch 2.13).
        self.optimizer.found_inf = self._is_bad  # type: ignore[attr-defined]
        self._history = BufferHistory(net.buffers())
        self._pending: deque[_Report] = deque()
        self._num_late = 1 if device.torch_device.type == "cuda" else 0
        self.micro_batch = min(config.optim.micro_batch or config.optim.batch_size, config.optim.batch_size)
        """Number of crops that go through the network at once."""
        self.forward.prepare((self.micro_batch, 1, *config.patch.shape))
        self.failure: Failure | None = None

    def begin_epoch(self, rate: float) -> None:
        """Set the network to training and the learning rate to `rate`."""
        self.net.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, batch: Batch) -> list[float]:
        """Train on a batch. Return the losses that are now known: of this step, or on a GPU of the previous one."""
        self._history.take()
        while self.failure is None:
            report = self._attempt(batch)
            if report is not None:
                self._pending.append(_Report.sent(report))
                break
            self._undo()
        # After a failure no further step would report the pending losses.
        return self._known(0 if self.failure else self._num_late)

    def flush(self) -> list[float]:
        """Wait for the losses that have not been returned yet, and return them."""
        return self._known(0)

    def _attempt(self, batch: Batch) -> Tensor | None:
        """Return the loss and the norm of the gradient, or None if the step must be tried again in another way."""
        try:
            return self._compute(batch)
        except (RuntimeError, MemoryError) as error:
            self._adapt(error)
        return None  # outside of the handler, because the error keeps the memory of the failed attempt

    def _compute(self, batch: Batch) -> Tensor:
        image, label = self._tensors(batch)
        batch_loss = loss_of(self._config.loss, self._config.labels, label)
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        parts = zip(torch.split(image, self.micro_batch), torch.split(label, self.micro_batch), strict=True)
        for images, labels in parts:
            loss = supervised_loss(self.forward(images), labels, batch_loss)
            # Before the next part goes forward, so that memory holds the activations of one part.
            loss.backward()  # type: ignore[no-untyped-call]
            # No number yet, because reading it would wait for the GPU.
            losses.append(loss.detach())
        # A norm that is not finite spoils the gradients here. The flag below keeps them from the weights.
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self._config.optim.clip_norm)
        report = torch.stack([torch.stack(losses).sum(), norm])
        # In place, because the optimiser holds this tensor. A maximum, so that a later finite step does not clear it.
        torch.maximum(self._is_bad, (~report.isfinite()).any().float(), out=self._is_bad)
        self.optimizer.step()
        return report

    def _adapt(self, error: RuntimeError | MemoryError) -> None:
        """Use fewer crops at a time, or no compiler. Raise the error again if neither helps."""
        # First, because an exhausted GPU also raises a RuntimeError, which compiled code would be blamed for.
        if is_out_of_memory(error):
            self._halve()
        elif self.forward.is_compiled and isinstance(error, RuntimeError):
            self.forward.without_compiling(error)
        else:
            raise error

    def _halve(self) -> None:
        if self.micro_batch == 1:
            self.failure = OUT_OF_MEMORY
            return
        before = self.micro_batch
        self.micro_batch = math.ceil(before / 2)
        _log.warning(
            "memory ran out with %d crops at a time; gradients are now added over several passes, and BatchNorm takes "
            "its statistics from %s",
            before,
            f"{self.micro_batch} crops" if self.micro_batch > 1 else "1 crop",
        )

    def _undo(self) -> None:
        """Undo a failed attempt. It ended before the optimiser changed the weights."""
        self.optimizer.zero_grad(set_to_none=True)
        self._history.put_back()
        if self._device.torch_device.type == "cuda":
            torch.cuda.empty_cache()

    def _known(self, num_left: int) -> list[float]:
        """Return the losses of all pending steps but the last `num_left`, up to the first that failed."""
        losses: list[float] = []
        while len(self._pending) > num_left:
            loss, norm = self._pending.popleft().read()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                # The flag kept the weights, but the later steps have also changed BatchNorm's statistics.
                self._history.put_back(steps=1 + len(self._pending))
                self._pending.clear()
                self.failure = GRADIENT_NOT_FINITE if math.isfinite(loss) else LOSS_NOT_FINITE
                break
            losses.append(loss)
        return losses


@dataclass(frozen=True)
class _Report:
    """The loss and the norm of the gradient of a step, while they are copied from the device."""

    values: Tensor
    arrival: torch.cuda.Event | None

    @classmethod
    def sent(cls, values: Tensor) -> "_Report":
        """Start to copy the loss and the norm from the device."""
        if values.device.type != "cuda":
            return cls(values, None)
        copy = values.to("cpu", non_blocking=True)
        # The copy does not block. Until this event, its values are undefined.
        arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrival.record()
        return cls(copy, arrival)

    def read(self) -> tuple[float, float]:
        """Return the loss and the norm, waiting for the copy."""
        if self.arrival is not None:
            self.arrival.synchronize()
        loss, norm = self.values.tolist()
        return loss, norm
