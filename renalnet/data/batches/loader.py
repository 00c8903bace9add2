"""Batches of crops focused on kidney and tumor, in an order that depends on the seed and the step alone.

A batch is a function of (seed, step): resuming at a step needs no state but its number, and neither threads nor
memory change what is drawn (paper, III.B.2: flips and random crops, weighted towards kidney and tumor).
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from renalnet.config import TrainConfig
from renalnet.data.batches.crop import crop_into
from renalnet.data.batches.decoded_cases import DecodedCases
from renalnet.data.batches.flips import NO_FLIPS, draw_flips
from renalnet.data.batches.random_streams import Purpose, stream
from renalnet.data.batches.sampler import Sampler, ShuffleWindow
from renalnet.types import IGNORE_LABEL

WORKERS_BESIDE_GPU: Final = 2
"""Threads where none are configured; a network on a processor takes far longer than a batch, and needs none."""


@dataclass(frozen=True)
class Batch:
    """Crops (B, z, y, x) in host memory, valid until the next batch is asked for."""

    step: int
    image: Tensor
    """int16, HU within the range of the normalisation."""
    label: Tensor
    """uint8, `IGNORE_LABEL` outside the ROI."""


class BatchLoader:
    """Batches by step number, assembled in the caller's thread or ahead of it."""

    def __init__(self, patients: DecodedCases, config: TrainConfig, *, fill_hu: int, for_gpu: bool = False) -> None:
        """Allocate nothing yet.

        Args:
            patients: to draw from.
            config: of the run: its crops, window, batch size and seed.
            fill_hu: what lies outside a ROI.
            for_gpu: pin the buffers, and assemble ahead unless the configuration says otherwise.

        Raises:
            StoreError: there is no patient.
        """
        self._patients, self._patch, self._seed = patients, config.patch, config.seed
        self._batch_size, self._fill_hu, self._pin = config.optim.batch_size, fill_hu, for_gpu
        self._window = ShuffleWindow(len(patients), config.loader.window, config.loader.visit, config.seed)
        self._sampler = Sampler(patients, config.patch, self._window)
        beside = WORKERS_BESIDE_GPU if for_gpu else 0
        self._num_workers = beside if config.loader.workers is None else config.loader.workers
        self._ring: list[tuple[Tensor, Tensor]] = []
        self.waited_s = 0.0
        """Seconds that callers of `batches` have waited for a batch."""

    def batch(self, step: int) -> Batch:
        """The batch of a step in memory of its own; the same for the same seed and step, whatever was asked before."""
        return self._fill(step, self._new_buffers())

    def batches(self, first_step: int, num_steps: int) -> Iterator[Batch]:
        """The batches of `num_steps` steps from `first_step` on. Raises StoreError where a shard is damaged."""
        while len(self._ring) <= self._num_workers:
            self._ring.append(self._new_buffers())
        self._patients.prefetch(self._sampler.order_of_need(self._seed, first_step * self._batch_size))
        steps = range(first_step, first_step + num_steps)
        yield from self._ahead(steps) if self._num_workers else self._in_turn(steps)

    def _in_turn(self, steps: range) -> Iterator[Batch]:
        for step in steps:
            self._slide(step, step)
            started = time.monotonic()
            batch = self._fill(step, self._ring[0])
            self.waited_s += time.monotonic() - started
            yield batch

    def _ahead(self, steps: range) -> Iterator[Batch]:
        """One batch is used while `num_workers` others are assembled: a buffer is filled when its user is done."""
        pending: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self._num_workers, thread_name_prefix="batch")
        try:
            for last in range(steps.start, steps.stop + self._num_workers):
                if last < steps.stop:
                    self._slide(max(last - self._num_workers, steps.start), last)
                    pending.append(pool.submit(self._fill, last, self._ring[last % len(self._ring)]))
                if last >= steps.start + self._num_workers:
                    started = time.monotonic()
                    batch = pending.popleft().result()
                    self.waited_s += time.monotonic() - started
                    yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _slide(self, oldest_step: int, newest_step: int) -> None:
        """Say which patients the steps under way need, and which will enter soon."""
        if self._window.holds_all:
            return
        first, last = oldest_step * self._batch_size, (newest_step + 1) * self._batch_size - 1
        self._patients.prefetch(self._window.around(first, last).tolist())

    def _fill(self, step: int, buffers: tuple[Tensor, Tensor]) -> Batch:
        images, labels = buffers
        for number in range(self._batch_size):
            self._fill_crop(step * self._batch_size + number, images[number], labels[number])
        return Batch(step, images, labels)

    def _fill_crop(self, crop: int, image: Tensor, label: Tensor) -> None:
        generator = stream(self._seed, Purpose.CROP, crop)
        location = self._sampler.draw(crop, generator)
        flips = draw_flips(generator) if self._patch.flip else NO_FLIPS
        patient = self._patients[location.case]
        for out, roi, fill in ((image, patient.image, self._fill_hu), (label, patient.label, IGNORE_LABEL)):
            crop_into(flips.of(out.numpy()), roi, location, fill)  # what is written to a reversed view lies reversed

    def _new_buffers(self) -> tuple[Tensor, Tensor]:
        shape = self._batch_size, *self._patch.shape
        image, label = (torch.empty(shape, dtype=dtype, pin_memory=self._pin) for dtype in (torch.int16, torch.uint8))
        return image, label
