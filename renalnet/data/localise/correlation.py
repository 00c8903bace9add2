"""Where a template lies in a scan: Pearson's correlation at every shift, through Fourier transforms.

Voxels that are not a number belong to neither, so that templates may have any shape and scans may end anywhere
(masked normalised correlation: Padfield, IEEE Transactions on Image Processing 2012).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from renalnet.types import FloatArray

_LEAST_VARIATION: Final = 1e-3
"""Of the largest product of the two spreads; below it a correlation is a matter of rounding."""


def cut_or_pad(array: FloatArray, start: ArrayLike, shape: Sequence[int] | NDArray[np.int_], fill: float) -> FloatArray:
    """The box of `shape` voxels from index `start`, which may lie outside the array; there it holds `fill`."""
    box = np.full(tuple(shape), fill, np.float32)
    start = np.asarray(start)
    low = np.clip(start, 0, array.shape)
    high = np.clip(np.add(start, shape), low, array.shape)
    target = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    if (high > low).all():
        box[target] = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return box


def correlations(scan: FloatArray, template: FloatArray, least_share: float) -> NDArray[np.float64]:
    """Pearson's correlation at each place of a template within a scan's array.

    Args:
        scan: (z, y, x), nowhere smaller than the template; NaN outside the field of view.
        template: (z, y, x); NaN where nothing is to be compared.
        least_share: of the template's voxels, how many must have a voxel of the scan under them.

    Returns:
        At (i, j, k) the correlation, -1 to 1, with the template's first voxel on voxel (i, j, k) of the scan; 0 where
        too few of its voxels lie in the field of view, or where either is constant.
    """
    sums = _Sums(scan.shape, template.shape)
    there, here = sums.spectrum(np.isfinite(scan)), sums.spectrum(np.isfinite(template))
    first, second = np.nan_to_num(scan).astype(np.float64), np.nan_to_num(template).astype(np.float64)
    scans, templates = sums.spectrum(first), sums.spectrum(second)
    count = np.maximum(sums.over(there, here), 1)
    scan_sum, template_sum = sums.over(scans, here), sums.over(there, templates)
    scan_spread = sums.over(sums.spectrum(first * first), here) - scan_sum**2 / count
    template_spread = sums.over(there, sums.spectrum(second * second)) - template_sum**2 / count
    both = np.maximum(scan_spread, 0) * np.maximum(template_spread, 0)
    shared = sums.over(scans, templates) - scan_sum * template_sum / count
    enough = count >= least_share * np.count_nonzero(np.isfinite(template))
    known = enough & (both > _LEAST_VARIATION * both.max())
    return np.where(known, shared / np.sqrt(np.where(known, both, 1)), 0.0)


class _Sums:
    """Sums of products of a scan and a template over the template's extent, for all places at once."""

    def __init__(self, scan: tuple[int, ...], template: tuple[int, ...]) -> None:
        self._sizes = [fft.next_fast_len(size, real=True) for size in scan]
        self._places = tuple(slice(0, size - length + 1) for size, length in zip(scan, template, strict=True))

    def spectrum(self, array: NDArray[Any]) -> NDArray[np.complex128]:
        return np.asarray(fft.rfftn(array.astype(np.float64), self._sizes))

    def over(self, scan: NDArray[np.complex128], template: NDArray[np.complex128]) -> NDArray[np.float64]:
        return np.asarray(fft.irfftn(scan * template.conj(), self._sizes)[self._places])
