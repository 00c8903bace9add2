"""The case and the location of each crop: functions of the seed and the crop's number alone.

Both are drawn from the class counts and the listed voxels of each slab (`ClassLocations`), without reading voxels.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import LabelSet, PatchConfig
from renalnet.data.batches.crop import CropLocation
from renalnet.data.batches.decoded_cases import DecodedCases
from renalnet.data.batches.random_streams import Purpose, stream
from renalnet.errors import StoreError
from renalnet.types import Shape

ENTER_AHEAD: Final = 4
"""Number of cases that are decoded before they enter the window."""
_LOOK_AHEAD: Final = 4
"""Number of crops per case of the window from which the order of need is computed."""


class ShuffleWindow:
    """The cases that crops are drawn from: a window that slides over passes through all cases.

    Each pass has its own order. Every `visit` crops, one case enters and another leaves. A window that holds all cases
    does not move.
    """

    def __init__(self, num_cases: int, size: int, visit: int, seed: int) -> None:
        self._num_cases = num_cases
        self._size = size
        self._visit = visit
        self._seed = seed
        # Caches of the object, because a decorated method would keep every window alive.
        # A few entries suffice, because the batches under way have neighbouring windows.
        self._order = lru_cache(maxsize=4)(self._order_of_pass)
        self._slice = lru_cache(maxsize=4)(self._entries)

    @property
    def holds_all(self) -> bool:
        """Whether the window always holds all cases."""
        return self._size >= self._num_cases

    def at(self, crop: int) -> NDArray[np.int64]:
        """Return the numbers of the cases in the window at a crop; a case may occur twice between two passes."""
        if self.holds_all:
            return np.arange(self._num_cases)
        entered = crop // self._visit
        return self._slice(entered, entered + self._size)

    def around(self, first_crop: int, last_crop: int) -> NDArray[np.int64]:
        """Return the cases in the window at any crop from the first to the last, and the next `ENTER_AHEAD` ones."""
        if self.holds_all:
            return self.at(first_crop)
        return self._entries(first_crop // self._visit, last_crop // self._visit + self._size + ENTER_AHEAD)

    def _entries(self, first: int, stop: int) -> NDArray[np.int64]:
        """Return the cases that enter at positions `first` to `stop` (exclusive) of the joined passes."""
        passes = range(first // self._num_cases, -(-stop // self._num_cases))
        orders = np.concatenate([self._order(number) for number in passes])
        skipped = passes.start * self._num_cases
        return orders[first - skipped : stop - skipped]

    def _order_of_pass(self, number: int) -> NDArray[np.int64]:
        return stream(self._seed, Purpose.CASES, number).permutation(self._num_cases)


class Sampler:
    """Sampler of crops near a voxel of a label, or anywhere, by the configured shares."""

    def __init__(self, cases: DecodedCases, config: PatchConfig, window: ShuffleWindow, labels: LabelSet) -> None:
        """Sample from the cases in a window. Raises StoreError where there is no case."""
        if not len(cases):
            raise StoreError("no training ROI in the store; prepare it with training cases")
        self._cases = cases
        self._config = config
        self._window = window
        shares = config.shares(labels)
        # The probability that a crop is centred near a label or an earlier one, by value.
        self._bounds = dict(zip(shares, accumulate(shares.values()), strict=True))

    def draw(self, crop: int, generator: np.random.Generator) -> CropLocation:
        """Draw the location of a crop by its number, which counts from 0 through all steps."""
        case, label = self._choose(crop, generator)
        if label is None:
            wanted = self._anywhere(case, generator)
        else:
            wanted = self._around(self._voxel(case, label, generator), generator)
        return CropLocation(case, self._inside(case, wanted), self._config.shape)

    def order_of_need(self, seed: int, first_crop: int) -> Iterator[int]:
        """Yield the cases in the order in which crops from `first_crop` on need them, then all of the window.

        Cases may be repeated.
        """
        window = self._window.at(first_crop)
        # After four draws per case only one case in fifty has not been drawn, if all are equally likely.
        for crop in range(first_crop, first_crop + _LOOK_AHEAD * len(window)):
            yield self._choose(crop, stream(seed, Purpose.CROP, crop))[0]
        yield from window.tolist()

    def _choose(self, crop: int, generator: np.random.Generator) -> tuple[int, int | None]:
        """Draw a case and the label that the crop must contain, None for any; these are the first draws of a crop.

        A label that no case of the window has is passed over for the next one.
        """
        coin = generator.random()
        present = self._window.at(crop)
        for label, bound in self._bounds.items():
            if coin < bound and len(holders := present[self._cases.counts[present, label] > 0]):
                return int(generator.choice(holders)), label
        return int(generator.choice(present)), None

    def _voxel(self, case: int, label: int, generator: np.random.Generator) -> list[int]:
        """Draw a voxel of the label: a slab by its share of the label's voxels, then one of its listed voxels."""
        locations = self._cases[case].locations
        counts = locations.counts[:, label]
        anchors = locations.anchors(label)[int(generator.choice(len(counts), p=counts / counts.sum()))]
        return [int(place) for place in anchors[int(generator.integers(len(anchors)))]]

    def _around(self, voxel: list[int], generator: np.random.Generator) -> list[int]:
        """Draw the start of a box that has `voxel` in its middle half along each axis."""
        return [
            position - int(generator.integers(size // 4, max(size - size // 4, size // 4 + 1)))
            for position, size in zip(voxel, self._config.shape, strict=True)
        ]

    def _anywhere(self, case: int, generator: np.random.Generator) -> list[int]:
        """Draw the start of a box from a uniform distribution over the boxes inside the ROI."""
        lengths = self._cases.shapes[case].tolist()
        return [
            int(generator.integers(max(length - size, 0) + 1))
            for length, size in zip(lengths, self._config.shape, strict=True)
        ]

    def _inside(self, case: int, start: Sequence[int]) -> Shape:
        """Return the start moved into the ROI along axes where the box fits, and centred along those where not."""
        lengths = self._cases.shapes[case].tolist()
        z, y, x = (_clamp(*axis) for axis in zip(start, lengths, self._config.shape, strict=True))
        return z, y, x


def _clamp(start: int, length: int, size: int) -> int:
    if length <= size:
        return -((size - length) // 2)
    return min(max(start, 0), length - size)
