"""Networks by OpenVINO, on a processor.

OpenVINO computes whole networks in a memory layout of its own and joins more operations than PyTorch does. On
processors without bfloat16 instructions, it takes a fraction of PyTorch's time. It is an optional dependency.
"""

import sys
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import Tensor

from renalnet.inference.backends.backend import Forward, Prepared, Workload
from renalnet.nets import SegmentationNet

_MAX_SHAPES: Final = 4
"""Number of shapes of sub-volumes for which compiled networks are kept."""
_NUMBER_FORMATS: Final = {"f32": "float32", "bf16": "bfloat16"}
_CPU: Final = torch.device("cpu")


def is_installed() -> bool:
    """Return whether OpenVINO is installed. It is not imported."""
    return find_spec("openvino") is not None


class OpenVinoBackend:
    """Networks that OpenVINO computes, with as many threads as PyTorch.

    The networks of a shape of sub-volumes are converted and compiled when they are first needed, which takes seconds.
    """

    def __init__(self, nets: Sequence[SegmentationNet], *, use_bfloat16: bool) -> None:
        """Take networks in evaluation mode on the processor, not folded.

        With `use_bfloat16`, they are computed in bfloat16 if OpenVINO says that the processor has instructions for it.
        """
        self._nets = nets
        self._use_bfloat16 = use_bfloat16
        self._compiled = lru_cache(maxsize=_MAX_SHAPES)(self._compile)

    def prepared(self, work: Workload) -> Prepared:
        """Return the networks for sub-volumes of the shape of the example."""
        models = self._compiled(work.example.shape)
        precision = models[0].get_property("INFERENCE_PRECISION_HINT").to_string()
        name = f"openvino {_import().__version__.split('-')[0]}, {_NUMBER_FORMATS[precision]}"
        return Prepared(name, tuple(map(_forward, models)), _CPU)

    def _compile(self, shape: torch.Size) -> list[Any]:
        core = _import().Core()
        has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        options = {
            # The default is bfloat16 where the processor has it, whatever the type of the weights.
            "INFERENCE_PRECISION_HINT": "bf16" if self._use_bfloat16 and has_bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            # Processes that are each pinned to the first cores would share them.
            "ENABLE_CPU_PINNING": False,
        }
        return [core.compile_model(_converted(net, shape), "CPU", options) for net in self._nets]


def _import() -> Any:
    """Import OpenVINO without its telemetry, which reports imports and conversions over the network.

    Where `openvino_telemetry` cannot be imported, OpenVINO uses a replacement that does nothing.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within OpenVINO
        import openvino
    return openvino


@torch.no_grad()
def _converted(net: SegmentationNet, shape: torch.Size) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within PyTorch's exporter
        return _import().convert_model(torch.export.export(net, (torch.zeros(shape),)))


def _forward(model: Any) -> Forward:
    def forward(sub_volumes: Tensor) -> Tensor:
        # The networks are compiled for a single sub-volume. By default, a result is a copy.
        parts = [torch.from_numpy(model(part.contiguous().numpy())[0]) for part in sub_volumes[:, None]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return forward
