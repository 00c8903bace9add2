"""From batches in host memory to what a network takes: on the device, normalised, augmented."""

from typing import Final

import torch
from torch import Tensor

from renalnet.data.augment import Augmenter
from renalnet.data.loader import Batch
from renalnet.data.manifest import Normalisation
from renalnet.device import Device

_CHUNK_SLICES: Final = 8
"""Slices that are converted and scaled while they are in the processor's cache."""


class TensorMaker:
    """Turns batches into tensors; on a processor into the same memory each time."""

    def __init__(self, normalisation: Normalisation, device: Device, augmenter: Augmenter) -> None:
        self._device, self._augmenter = device, augmenter
        hu_range = normalisation.hu_max - normalisation.hu_min
        self._scale = 1 / hu_range
        self._offset = torch.tensor(-normalisation.hu_min / hu_range - normalisation.mean, dtype=torch.float32)
        self._image = torch.empty(0)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised float32 images (B, 1, D, H, W) and labels (B, D, H, W), on the device.

        Valid until the next call and while the batch is. Equal to `Normalisation.apply` but for rounding.
        """
        is_processor = self._device.torch_device.type == "cpu"
        image, label = self._on_processor(batch) if is_processor else self._on_gpu(batch)
        if not self._augmenter.is_off:
            image, label = self._augmenter.apply(batch.step * len(image), image, label)
        return self._device.tensor(image.unsqueeze(1)), label

    def _on_processor(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self._image.shape != batch.image.shape:
            self._image = torch.empty(batch.image.shape)
        for raw, image in zip(batch.image, self._image, strict=True):
            for hu, out in zip(raw.split(_CHUNK_SLICES), image.split(_CHUNK_SLICES), strict=True):
                self._scaled(out.copy_(hu), out)
        return self._image, batch.label

    def _on_gpu(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Waits for the copies, since the batch's memory is filled again; from pinned memory they are quick."""
        image = batch.image.to(self._device.torch_device).float()
        return self._scaled(image, image), batch.label.to(self._device.torch_device)

    def _scaled(self, hu: Tensor, out: Tensor) -> Tensor:
        """The scale and the offset in one pass: offset + scale · hu."""
        return torch.add(self._offset, hu, alpha=self._scale, out=out)
