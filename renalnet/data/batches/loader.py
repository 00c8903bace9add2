"""Batches of random crops that are weighted towards kidney and tumor, with random flips (paper, III.B.2).

A batch is a function of the seed and the step alone. A run therefore resumes at a step by its number, and neither the
number of threads nor the memory budget changes a batch.
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
"""Default number of threads that assemble batches beside a GPU.

The default beside a CPU is 0, because a network takes far longer there than the assembly of a batch.
"""


@dataclass(frozen=True)
class Batch:
    """Crops (B, z, y, x) in host memory, valid until the next batch is requested."""

    step: int
    image: Tensor
    """CT numbers as int16, within the range of the normalisation."""
    label: Tensor
    """Labels as uint8, `IGNORE_LABEL` outside the ROI."""


class BatchLoader:
    """Batches by step, assembled in the caller's thread or ahead of it in other threads."""

    def __init__(self, cases: DecodedCases, config: TrainConfig, *, fill_hu: int, for_gpu: bool = False) -> None:
        """Prepare to assemble batches; buffers are allocated later.

        Args:
            cases: cases to draw from.
            config: configuration of the run, with crops, window, batch size and seed.
            fill_hu: CT number outside an ROI.
            for_gpu: whether to pin the buffers, and to assemble ahead unless the configuration says otherwise.

        Raises:
            StoreError: there is no case.
        """
        self._cases = cases
        self._patch = config.patch
        self._seed = config.seed
        self._batch_size = config.optim.batch_size
        self._fill_hu = fill_hu
        self._pin = for_gpu
        self._window = ShuffleWindow(len(cases), config.loader.window, config.loader.visit, config.seed)
        self._sampler = Sampler(cases, config.patch, self._window, config.labels)
        beside = WORKERS_BESIDE_GPU if for_gpu else 0
        self._num_workers = beside if config.loader.workers is None else config.loader.workers
        self._ring: list[tuple[Tensor, Tensor]] = []
        self.waited_s = 0.0
        """Seconds for which callers of `batches` have waited."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step in its own memory; it depends on the seed and the step alone."""
        return self._fill(step, self._new_buffers())

    def batches(self, first_step: int, num_steps: int) -> Iterator[Batch]:
        """Yield the batches of `num_steps` steps from `first_step` on. Raises StoreError where a shard is damaged."""
        # One buffer more than threads: the caller uses one batch while the threads fill the others.
        while len(self._ring) <= self._num_workers:
            self._ring.append(self._new_buffers())
        self._cases.prefetch(self._sampler.order_of_need(self._seed, first_step * self._batch_size))
        steps = range(first_step, first_step + num_steps)
        yield from self._ahead(steps) if self._num_workers else self._in_turn(steps)

    def _in_turn(self, steps: range) -> Iterator[Batch]:
        # One buffer is enough, because the caller is done with a batch when it asks for the next.
        for step in steps:
            self._slide(step, step)
            started = time.monotonic()
            batch = self._fill(step, self._ring[0])
            self.waited_s += time.monotonic() - started
            yield batch

    def _ahead(self, steps: range) -> Iterator[Batch]:
        """Yield batches while `num_workers` others are assembled; a buffer is filled again once its user is done."""
        pending: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self._num_workers, thread_name_prefix="batch")
        try:
            for last in range(steps.start, steps.stop + self._num_workers):
                if last < steps.stop:
                    # Batches that are still being assembled need their cases too.
                    self._slide(max(last - self._num_workers, steps.start), last)
                    pending.append(pool.submit(self._fill, last, self._ring[last % len(self._ring)]))
                if last >= steps.start + self._num_workers:
                    started = time.monotonic()
                    batch = pending.popleft().result()
                    self.waited_s += time.monotonic() - started
                    yield batch
        finally:
            # Also where the caller stops early, so that no thread outlives the run.
            pool.shutdown(cancel_futures=True)

    def _slide(self, oldest_step: int, newest_step: int) -> None:
        """Prefetch the cases that the current steps need, and those that enter the window soon."""
        if self._window.holds_all:
            return
        first = oldest_step * self._batch_size
        last = (newest_step + 1) * self._batch_size - 1
        self._cases.prefetch(self._window.around(first, last).tolist())

    def _fill(self, step: int, buffers: tuple[Tensor, Tensor]) -> Batch:
        images, labels = buffers
        for number in range(self._batch_size):
            self._fill_crop(step * self._batch_size + number, images[number], labels[number])
        return Batch(step, images, labels)

    def _fill_crop(self, crop: int, image: Tensor, label: Tensor) -> None:
        generator = stream(self._seed, Purpose.CROP, crop)
        # Drawn before the flips: `Sampler.order_of_need` repeats the first draws of this stream.
        location = self._sampler.draw(crop, generator)
        flips = draw_flips(generator) if self._patch.flip else NO_FLIPS
        case = self._cases[location.case]
        # Writing into a reversed view flips the crop without a second copy.
        crop_into(flips.of(image.numpy()), case.image, location, self._fill_hu)
        crop_into(flips.of(label.numpy()), case.label, location, IGNORE_LABEL)

    def _new_buffers(self) -> tuple[Tensor, Tensor]:
        shape = self._batch_size, *self._patch.shape
        image, label = (torch.empty(shape, dtype=dtype, pin_memory=self._pin) for dtype in (torch.int16, torch.uint8))
        return image, label
