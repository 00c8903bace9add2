"""Pearson's correlation of a template with a scan at every shift, by Fourier transforms.

Voxels that are NaN are ignored, so that templates may have any shape and scans may end anywhere. This is masked
normalised cross-correlation (Padfield, IEEE Transactions on Image Processing 21(5), 2012).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from renalnet.types import FloatArray

_MIN_VARIATION: Final = 1e-3
"""Smallest product of the two variations, relative to its maximum, at which a correlation exceeds rounding errors."""


def cut_or_pad(array: FloatArray, start: ArrayLike, shape: Sequence[int] | NDArray[np.int_], fill: float) -> FloatArray:
    """Return the box of `shape` voxels from index `start`. Outside the array it contains `fill`."""
    box = np.full(tuple(shape), fill, np.float32)
    start = np.asarray(start)
    low = np.clip(start, 0, array.shape)
    high = np.clip(np.add(start, shape), low, array.shape)
    target = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    if (high > low).all():
        box[target] = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return box


def correlations(scan: FloatArray, template: FloatArray, min_share: float) -> NDArray[np.float64]:
    """Return Pearson's correlation at each place of a template within a scan's array.

    Args:
        scan: (z, y, x), at least as large as the template along each axis; NaN outside the field of view.
        template: (z, y, x); NaN in voxels that are not compared.
        min_share: smallest share of the template's voxels, 0 to 1, that must be in the scan's field of view.

    Returns:
        At (i, j, k) the correlation, -1 to 1, with the template's first voxel on voxel (i, j, k) of the scan. It is 0
        where too few voxels are in the field of view, or where scan or template are constant.
    """
    # The variations are small differences of large sums, which is why the sums are in double precision.
    sums = _Sums(scan, template)
    # Places with a count of 0 are excluded by `enough`; 1 only avoids a division by 0.
    count = np.maximum(sums.count, 1)
    scan_variation = sums.scan_squares - sums.scan**2 / count
    template_variation = sums.template_squares - sums.template**2 / count
    # Fourier transforms leave rounding errors, by which a variation of 0 may become negative.
    product = np.maximum(scan_variation, 0) * np.maximum(template_variation, 0)
    covariation = sums.products - sums.scan * sums.template / count
    enough = count >= min_share * np.count_nonzero(np.isfinite(template))
    known = enough & (product > _MIN_VARIATION * product.max())
    return np.where(known, covariation / np.sqrt(np.where(known, product, 1)), 0.0)


class _Sums:
    """Sums over the voxels that are finite in both the scan and the template, for all places at once."""

    def __init__(self, scan: FloatArray, template: FloatArray) -> None:
        # Sizes with small prime factors are faster to transform. The scan includes all places, so nothing wraps.
        self._sizes = [fft.next_fast_len(size, real=True) for size in scan.shape]
        self._places = tuple(slice(0, a - b + 1) for a, b in zip(scan.shape, template.shape, strict=True))
        scan_known = self._spectrum(np.isfinite(scan))
        template_known = self._spectrum(np.isfinite(template))
        scan_values = np.nan_to_num(scan).astype(np.float64)
        template_values = np.nan_to_num(template).astype(np.float64)
        scans = self._spectrum(scan_values)
        templates = self._spectrum(template_values)
        self.count = self._sum(scan_known, template_known)
        self.scan = self._sum(scans, template_known)
        self.template = self._sum(scan_known, templates)
        self.scan_squares = self._sum(self._spectrum(scan_values * scan_values), template_known)
        self.template_squares = self._sum(scan_known, self._spectrum(template_values * template_values))
        self.products = self._sum(scans, templates)

    def _spectrum(self, array: NDArray[Any]) -> NDArray[np.complex128]:
        return np.asarray(fft.rfftn(array.astype(np.float64), self._sizes))

    def _sum(self, scan: NDArray[np.complex128], template: NDArray[np.complex128]) -> NDArray[np.float64]:
        # The product with the complex conjugate is the correlation theorem.
        return np.asarray(fft.irfftn(scan * template.conj(), self._sizes)[self._places])
