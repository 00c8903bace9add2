"""Conversion of batches in host memory to network input: on the device, normalised and augmented."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from renalnet.config import Normalisation
from renalnet.data.batches.augmentation import Augmenter
from renalnet.data.batches.loader import Batch
from renalnet.runtime.device import Device

_CHUNK_SLICES: Final = 8
"""Number of slices that are converted and scaled together, so few that they stay in the cache of the CPU."""


class TensorMaker:
    """Conversion of batches to tensors; on a CPU it uses the same memory each time."""

    def __init__(self, normalisation: Normalisation, device: Device, augmenter: Augmenter) -> None:
        self._device = device
        self._augmenter = augmenter
        hu_range = normalisation.hu_max - normalisation.hu_min
        # `Normalisation.apply` as one product and one sum. Clipping is left out, because decoded cases are clipped.
        self._scale = np.float32(1 / hu_range)
        self._offset = np.float32(-normalisation.hu_min / hu_range - normalisation.mean)
        self._image = torch.empty(0)
        on_gpu = device.torch_device.type == "cuda"
        self._copies = torch.cuda.Stream(device.torch_device) if on_gpu else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return normalised float32 images (B, 1, D, H, W) and labels (B, D, H, W), on the device.

        They are valid until the next call, and while the batch is. Images equal `Normalisation.apply` up to rounding.
        """
        is_processor = self._device.torch_device.type == "cpu"
        image, label = self._on_processor(batch) if is_processor else self._on_gpu(batch)
        if not self._augmenter.is_off:
            image, label = self._augmenter.apply(batch.step * len(image), image, label)
        # The single channel is added last in memory and moved to second place: `channels_last_3d` without a copy.
        return self._device.tensor(image.unsqueeze(-1).movedim(-1, 1)), label

    def _on_processor(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Convert by NumPy in this thread, because threads cost more than they gain where trials share the cores."""
        if self._image.shape != batch.image.shape:
            self._image = torch.empty(batch.image.shape)
        hu = batch.image.flatten(0, 1).numpy()
        image = self._image.flatten(0, 1).numpy()
        for start in range(0, len(hu), _CHUNK_SLICES):
            chunk = image[start : start + _CHUNK_SLICES]
            np.copyto(chunk, hu[start : start + _CHUNK_SLICES])
            np.multiply(chunk, self._scale, out=chunk)
            np.add(chunk, self._offset, out=chunk)
        return self._image, batch.label

    def _on_gpu(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Copy in a separate CUDA stream, so that the network computes on the previous batch meanwhile."""
        device = self._device.torch_device
        with torch.cuda.stream(self._copies):
            image, label = (values.to(device, non_blocking=True) for values in (batch.image, batch.label))
        assert self._copies is not None
        self._copies.synchronize()  # the loader fills the batch's memory again; this waits for the copies only
        computing = torch.cuda.current_stream(device)
        for values in (image, label):
            values.record_stream(computing)  # else the allocator gives the memory to a copy while the network reads it
        return image.float().mul_(float(self._scale)).add_(float(self._offset)), label
