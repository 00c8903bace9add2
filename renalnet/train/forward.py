"""The forward pass of training, compiled where that is faster."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from renalnet.nets import SegmentationNet
from renalnet.precision.routes import layers_in_float32, route_around_faults
from renalnet.runtime.device import Device
from renalnet.runtime.log import get_logger

Logits = Callable[[Tensor], Sequence[Tensor]]
_log = get_logger(__name__)


class TrainingForward:
    """Maps images (B, 1, D, H, W) to the logits for the loss. If compiling fails, it warns and continues without it."""

    def __init__(self, net: SegmentationNet, device: Device, choice: Literal["auto", "on", "off"]) -> None:
        """Compile the network if `choice` is `on`, or if it is `auto` and the device is a GPU.

        On a CPU, compiled code was measured to be slower, and compiling takes a minute.
        """
        self._device = device
        self._net = net
        self._plain: Logits = net.training_logits
        self._compiled: Logits | None = None
        if choice == "on" or (choice == "auto" and device.torch_device.type == "cuda"):
            self._compile()

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code is used."""
        return self._compiled is not None

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """Return the logits, computed in the device's precision."""
        self.prepare(image.shape)
        with self._device.autocast():
            return (self._compiled or self._plain)(image)

    def prepare(self, shape: Iterable[int]) -> None:
        """Let the layers whose convolutions are wrong in bfloat16 for images of `shape` compute in float32."""
        route_around_faults(self._net, shape, self._device, is_training=True)

    @property
    def layers_in_float32(self) -> tuple[str, ...]:
        """Names of the layers that `prepare` lets compute in float32."""
        return tuple(layers_in_float32(self._net))

    def without_compiling(self, error: RuntimeError) -> None:
        """Use the network without compiling from now on, and log why.

        An error that the network itself raises will be raised again.
        """
        self._compiled = None
        # The first line only, because the output of a compiler can be long.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        _log.warning("the network could not be compiled (%s); training continues without compiling", reason)

    def _compile(self) -> None:
        # Only the first call compiles the code. `Stepper` handles the errors that occur there.
        try:
            self._compiled = torch.compile(self._plain)
        except RuntimeError as error:  # raised for an unsupported Python version or operating system
            self.without_compiling(error)
