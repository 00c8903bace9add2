"""From batches in host memory to what a network takes: on the device, normalised, augmented."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from renalnet.data.batches.augmentation import Augmenter
from renalnet.data.batches.loader import Batch
from renalnet.data.store.manifest import Normalisation
from renalnet.runtime.device import Device

_CHUNK_SLICES: Final = 8
"""Slices that are converted and scaled while they are in the processor's cache."""


class TensorMaker:
    """Turns batches into tensors; on a processor into the same memory each time."""

    def __init__(self, normalisation: Normalisation, device: Device, augmenter: Augmenter) -> None:
        self._device, self._augmenter = device, augmenter
        hu_range = normalisation.hu_max - normalisation.hu_min
        self._scale = np.float32(1 / hu_range)
        self._offset = np.float32(-normalisation.hu_min / hu_range - normalisation.mean)
        self._image = torch.empty(0)
        on_gpu = device.torch_device.type == "cuda"
        self._copies = torch.cuda.Stream(device.torch_device) if on_gpu else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised float32 images (B, 1, D, H, W) and labels (B, D, H, W), on the device.

        Valid until the next call and while the batch is. Equal to `Normalisation.apply` but for rounding.
        """
        is_processor = self._device.torch_device.type == "cpu"
        image, label = self._on_processor(batch) if is_processor else self._on_gpu(batch)
        if not self._augmenter.is_off:
            image, label = self._augmenter.apply(batch.step * len(image), image, label)
        # One channel set last in memory and second in order: the network's layout without a copy.
        return self._device.tensor(image.unsqueeze(-1).movedim(-1, 1)), label

    def _on_processor(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """By NumPy in this thread: so short a task is slower shared out, above all where trials share the cores."""
        if self._image.shape != batch.image.shape:
            self._image = torch.empty(batch.image.shape)
        hu, image = batch.image.flatten(0, 1).numpy(), self._image.flatten(0, 1).numpy()
        for start in range(0, len(hu), _CHUNK_SLICES):
            chunk = image[start : start + _CHUNK_SLICES]
            np.copyto(chunk, hu[start : start + _CHUNK_SLICES])
            np.multiply(chunk, self._scale, out=chunk)
            np.add(chunk, self._offset, out=chunk)
        return self._image, batch.label

    def _on_gpu(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Copies beside the computing stream, so that the network goes on with the batch before meanwhile."""
        device = self._device.torch_device
        with torch.cuda.stream(self._copies):
            image, label = (values.to(device, non_blocking=True) for values in (batch.image, batch.label))
        assert self._copies is not None
        self._copies.synchronize()  # the batch's memory is filled again; this waits for the copies alone
        computing = torch.cuda.current_stream(device)
        for values in (image, label):
            values.record_stream(computing)  # its memory may not go to another copy before the network is done
        return image.float().mul_(float(self._scale)).add_(float(self._offset)), label
