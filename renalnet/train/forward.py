"""The network's forward pass while training, compiled where that pays."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from renalnet.nets import SegmentationNet
from renalnet.runtime.device import Device
from renalnet.runtime.log import get_logger

Logits = Callable[[Tensor], Sequence[Tensor]]
_log = get_logger(__name__)


class TrainingForward:
    """Images (B, 1, D, H, W) to the logits that the loss takes; where compiling fails it goes on without, in words."""

    def __init__(self, net: SegmentationNet, device: Device, choice: Literal["auto", "on", "off"]) -> None:
        """`auto` compiles on a GPU only: on a processor compiled code measured slower, and takes a minute to make."""
        self._device = device
        self._plain: Logits = net.training_logits
        self._compiled: Logits | None = None
        if choice == "on" or (choice == "auto" and device.torch_device.type == "cuda"):
            self._compile()

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code is used."""
        return self._compiled is not None

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """The logits, in the device's precision."""
        with self._device.autocast():
            return (self._compiled or self._plain)(image)

    def without_compiling(self, error: RuntimeError) -> None:
        """Use the plain network from now on; said once. What it raises too was no fault of the compiler."""
        self._compiled = None
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        _log.warning("the network could not be compiled (%s): training goes on without", reason)

    def _compile(self) -> None:
        try:
            self._compiled = torch.compile(self._plain)
        except RuntimeError as error:  # of a Python or a system that it does not know
            self.without_compiling(error)
