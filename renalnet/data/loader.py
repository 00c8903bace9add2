"""Batches of crops focused on kidney and tumor, in an order that depends on the seed and the step alone.

A batch is a function of (seed, step): resuming at a step needs no state but its number (paper, III.B.2: flips and
random crops, weighted towards the region that holds kidney and tumor).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renalnet.config import PatchConfig
from renalnet.data.augment import draw_flips
from renalnet.data.patch import PatchLocation, crop
from renalnet.data.store import Roi
from renalnet.errors import StoreError
from renalnet.types import KIDNEY, NUM_CLASSES, TUMOR, HuArray, LabelArray, Shape


@dataclass(frozen=True)
class Batch:
    """Crops (B, z, y, x): CT numbers in HU and labels, `IGNORE_LABEL` outside the ROI."""

    image: HuArray
    label: LabelArray


class Sampler:
    """Draws where crops lie, from the counts of each class in each slice."""

    def __init__(self, rois: Sequence[Roi], config: PatchConfig) -> None:
        """Count classes once; `rois` are not copied. Raises StoreError where there is no ROI."""
        if not rois:
            raise StoreError("no training ROI in the store; prepare it with training patients")
        self._rois = rois
        self._config = config
        self._slice_counts = [_slice_counts(roi.label) for roi in rois]
        totals = np.stack([counts.sum(axis=0) for counts in self._slice_counts])
        self._cases_with = [np.flatnonzero(totals[:, label]) for label in range(NUM_CLASSES)]

    def draw(self, generator: np.random.Generator) -> PatchLocation:
        """A location: near a tumor voxel, near a kidney voxel, or anywhere, by the configured shares."""
        coin = generator.random()
        if coin < self._config.tumor_share and len(self._cases_with[TUMOR]):
            return self._near(TUMOR, generator)
        if coin < self._config.tumor_share + self._config.kidney_share and len(self._cases_with[KIDNEY]):
            return self._near(KIDNEY, generator)
        return self._anywhere(generator)

    def _near(self, label: int, generator: np.random.Generator) -> PatchLocation:
        case = int(generator.choice(self._cases_with[label]))
        counts = self._slice_counts[case][:, label]
        z = int(generator.choice(len(counts), p=counts / counts.sum()))
        in_slice = np.flatnonzero(self._rois[case].label[z] == label)
        y, x = divmod(int(generator.choice(in_slice)), self._rois[case].label.shape[2])
        return self._containing(case, (z, y, x), generator)

    def _containing(self, case: int, voxel: Shape, generator: np.random.Generator) -> PatchLocation:
        """A box that holds `voxel` in its middle half along each axis, moved inside the ROI where it fits."""
        wanted = [
            position - int(generator.integers(size // 4, max(size - size // 4, size // 4 + 1)))
            for position, size in zip(voxel, self._config.shape, strict=True)
        ]
        return PatchLocation(case, self._inside(case, wanted), self._config.shape)

    def _anywhere(self, generator: np.random.Generator) -> PatchLocation:
        case = int(generator.integers(len(self._rois)))
        wanted = [int(generator.integers(length)) for length in self._rois[case].label.shape]
        return PatchLocation(case, self._inside(case, wanted), self._config.shape)

    def _inside(self, case: int, start: Sequence[int]) -> Shape:
        lengths = self._rois[case].label.shape
        moved = [_clamp(*axis) for axis in zip(start, lengths, self._config.shape, strict=True)]
        return moved[0], moved[1], moved[2]


class PatchLoader:
    """Batches by step number; the next one is assembled while the current one is used."""

    def __init__(self, rois: Sequence[Roi], config: PatchConfig, *, batch_size: int, fill_hu: int, seed: int) -> None:
        self._rois = rois
        self._config = config
        self._sampler = Sampler(rois, config)
        self._batch_size = batch_size
        self._fill_hu = fill_hu
        self._seed = seed

    def batch(self, step: int) -> Batch:
        """The batch of a step; the same for the same seed and step, whatever was asked before."""
        generator = np.random.default_rng([self._seed, step])
        crops = [self._draw(generator) for _ in range(self._batch_size)]
        return Batch(np.stack([image for image, _ in crops]), np.stack([label for _, label in crops]))

    def batches(self, first_step: int, num_steps: int) -> Iterator[Batch]:
        """The batches of `num_steps` steps from `first_step` on, each prefetched by one."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending: Future[Batch] = pool.submit(self.batch, first_step)
            for step in range(first_step + 1, first_step + num_steps):
                ready = pending.result()
                pending = pool.submit(self.batch, step)
                yield ready
            yield pending.result()

    def _draw(self, generator: np.random.Generator) -> tuple[HuArray, LabelArray]:
        location = self._sampler.draw(generator)
        roi = self._rois[location.case]
        image, label = crop(roi.image, roi.label, location, self._fill_hu)
        return draw_flips(generator).apply(image, label) if self._config.flip else (image, label)


def _slice_counts(label: LabelArray) -> NDArray[np.int64]:
    """Voxels of each class in each slice, (z, class)."""
    return np.stack([(label == name).sum(axis=(1, 2)) for name in range(NUM_CLASSES)], axis=1)


def _clamp(start: int, length: int, size: int) -> int:
    if length <= size:
        return -((size - length) // 2)
    return min(max(start, 0), length - size)
