"""Which patient a crop shows and where it lies: functions of the seed and the crop's number alone.

Decided from counts and remembered voxels of each slab (`locations`), so that no pixel is touched to decide.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import PatchConfig
from renalnet.data.batches.crop import CropLocation
from renalnet.data.batches.decoded_cases import DecodedCases
from renalnet.data.batches.random_streams import Purpose, stream
from renalnet.errors import StoreError
from renalnet.types import KIDNEY, TUMOR, Shape

ENTER_AHEAD: Final = 4
"""Cases that are decoded before they enter the window."""
_LOOK_AHEAD: Final = 4
"""Crops for each patient of the window that are looked through for the order in which patients are needed."""


class ShuffleWindow:
    """The patients that crops are drawn from at a time: a window that slides over passes, each in an order of its own.

    A patient enters and another leaves every `visit` crops. A window that holds everybody stands still.
    """

    def __init__(self, num_patients: int, size: int, visit: int, seed: int) -> None:
        self._num_patients, self._size, self._visit, self._seed = num_patients, size, visit, seed
        self._order = lru_cache(maxsize=4)(self._order_of_pass)
        self._slice = lru_cache(maxsize=4)(self._entries)

    @property
    def holds_all(self) -> bool:
        """Whether no patient is ever outside."""
        return self._size >= self._num_patients

    def at(self, crop: int) -> NDArray[np.int64]:
        """Numbers of the patients in the window at a crop; one may be there twice, between two passes."""
        if self.holds_all:
            return np.arange(self._num_patients)
        entered = crop // self._visit
        return self._slice(entered, entered + self._size)

    def around(self, first_crop: int, last_crop: int) -> NDArray[np.int64]:
        """Those in the window at any crop from the first to the last, and the next `ENTER_AHEAD`."""
        if self.holds_all:
            return self.at(first_crop)
        return self._entries(first_crop // self._visit, last_crop // self._visit + self._size + ENTER_AHEAD)

    def _entries(self, first: int, stop: int) -> NDArray[np.int64]:
        """Cases in the order of entering, passes one after another."""
        passes = range(first // self._num_patients, -(-stop // self._num_patients))
        orders = np.concatenate([self._order(number) for number in passes])
        skipped = passes.start * self._num_patients
        return orders[first - skipped : stop - skipped]

    def _order_of_pass(self, number: int) -> NDArray[np.int64]:
        return stream(self._seed, Purpose.PATIENTS, number).permutation(self._num_patients)


class Sampler:
    """Draws crops near a tumor voxel, near a kidney voxel, or anywhere, by the configured shares."""

    def __init__(self, patients: DecodedCases, config: PatchConfig, window: ShuffleWindow) -> None:
        """Raises StoreError where there is no patient."""
        if not len(patients):
            raise StoreError("no training ROI in the store; prepare it with training patients")
        self._patients, self._config, self._window = patients, config, window

    def draw(self, crop: int, generator: np.random.Generator) -> CropLocation:
        """The location of a crop by its number, from 0 on through all steps."""
        case, label = self._choose(crop, generator)
        if label is None:
            wanted = self._anywhere(case, generator)
        else:
            wanted = self._around(self._voxel(case, label, generator), generator)
        return CropLocation(case, self._inside(case, wanted), self._config.shape)

    def order_of_need(self, seed: int, first_crop: int) -> Iterator[int]:
        """Cases in the order in which crops from `first_crop` on ask for them, then the rest of the window."""
        window = self._window.at(first_crop)
        for crop in range(first_crop, first_crop + _LOOK_AHEAD * len(window)):
            yield self._choose(crop, stream(seed, Purpose.CROP, crop))[0]
        yield from window.tolist()

    def _choose(self, crop: int, generator: np.random.Generator) -> tuple[int, int | None]:
        """A patient and the label to look for in it, none for anywhere: the first draws of a crop."""
        coin, present = generator.random(), self._window.at(crop)
        bounds = self._config.tumor_share, self._config.tumor_share + self._config.kidney_share
        for label, bound in zip((TUMOR, KIDNEY), bounds, strict=True):
            if coin < bound and len(holders := present[self._patients.counts[present, label] > 0]):
                return int(generator.choice(holders)), label
        return int(generator.choice(present)), None

    def _voxel(self, case: int, label: int, generator: np.random.Generator) -> list[int]:
        """A voxel of the label: each slab as likely as it holds voxels, then one of those it remembers."""
        locations = self._patients[case].locations
        counts = locations.counts[:, label]
        anchors = locations.anchors(label)[int(generator.choice(len(counts), p=counts / counts.sum()))]
        return [int(place) for place in anchors[int(generator.integers(len(anchors)))]]

    def _around(self, voxel: list[int], generator: np.random.Generator) -> list[int]:
        """Start of a box that holds `voxel` in its middle half along each axis."""
        return [
            position - int(generator.integers(size // 4, max(size - size // 4, size // 4 + 1)))
            for position, size in zip(voxel, self._config.shape, strict=True)
        ]

    def _anywhere(self, case: int, generator: np.random.Generator) -> list[int]:
        """Start of a box, each as likely of those that lie inside the ROI."""
        lengths = self._patients.shapes[case].tolist()
        return [
            int(generator.integers(max(length - size, 0) + 1))
            for length, size in zip(lengths, self._config.shape, strict=True)
        ]

    def _inside(self, case: int, start: Sequence[int]) -> Shape:
        """Moved inside the ROI where it fits, centred where it does not."""
        lengths = self._patients.shapes[case].tolist()
        z, y, x = (_clamp(*axis) for axis in zip(start, lengths, self._config.shape, strict=True))
        return z, y, x


def _clamp(start: int, length: int, size: int) -> int:
    if length <= size:
        return -((size - length) // 2)
    return min(max(start, 0), length - size)
