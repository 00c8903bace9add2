"""Training examples of the localiser: coarse scans, varied in size, place, field of view and intensity."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from renalnet.localiser.coarse_scan import CoarseScan, scaled
from renalnet.types import Shape

EXAMPLE_SHAPE: Final[Shape] = (56, 56, 64)
"""Voxels of an example (z, y, x): 336×336×384 mm, as much as most scans of an abdomen."""
ZOOM: Final = (0.8, 1.25)
"""Range of the factor of the size of a body."""
MAX_ANGLE: Final = math.radians(12)
"""Largest rotation about the axis of the body and about the axis from left to right."""
MIN_SLICES: Final = 8
"""Fewest slices that a scan is cut to; 48 mm, less than half a kidney."""
_CUT_SHARE: Final = 0.5
"""Share of examples whose field of view is cut along z, as scans that end at or within a kidney."""
_AT_KIDNEY_SHARE: Final = 0.5
"""Share of these examples whose slices are chosen to hold one with a kidney."""
_NARROW_SHARE: Final = 0.3
"""Share of examples whose field of view is cut in-plane, as reconstructions around the spine."""
DISORIENTED_SHARE: Final = 0.14
"""Share of examples with wrong axes."""
_AIR: Final = -1.0
"""Scaled CT number of air."""


def draw_batch(scans: Sequence[CoarseScan], size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return images (size, 1, z, y, x), float32, and labels (size, z, y, x), int64, of `EXAMPLE_SHAPE`."""
    drawn = [draw_example(scans[int(rng.integers(len(scans)))], rng) for _ in range(size)]
    return torch.stack([image for image, _ in drawn]), torch.stack([labels for _, labels in drawn])


def draw_example(scan: CoarseScan, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return one varied example: an image (1, z, y, x) and its labels (z, y, x)."""
    image = torch.from_numpy(scaled(scan.image.array))[None, None]
    # Each class is interpolated, because the nearest label would be ragged on a grid this coarse.
    sides = torch.from_numpy(scan.sides.array.astype(np.int64))
    shares = F.one_hot(sides, 3).movedim(-1, 0)[None].float()
    points = _points(scan.image.array.shape, rng)
    # Outside the scan there is air and no kidney.
    moved = F.grid_sample(image - _AIR, points, align_corners=False) + _AIR
    labels = F.grid_sample(shares[:, 1:], points, align_corners=False)[0]
    labels = torch.cat([1 - labels.sum(0, keepdim=True), labels]).argmax(0)
    image = _with_other_intensities(moved[0], rng)
    # Not cut as well, because few slices look alike upside down.
    return _disoriented(image, rng) if rng.random() < DISORIENTED_SHARE else _cut(image, labels, rng)


def _points(shape: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Return where in the scan each voxel of the example lies, (1, z, y, x, 3), as `grid_sample` takes it."""
    zoom = rng.uniform(*ZOOM) * rng.uniform(0.93, 1.07, 3)
    about_z, about_x = rng.uniform(-MAX_ANGLE, MAX_ANGLE, 2)
    turn = _rotation(0, 1, about_z) @ _rotation(1, 2, about_x)
    # The order of `grid_sample` is (x, y, z), and -1 to 1 is the whole scan.
    size = np.array(shape[::-1], float)
    extent = np.array(EXAMPLE_SHAPE[::-1], float)
    matrix = (turn / zoom) * extent / size[:, None]
    room = np.abs(1 - np.minimum(extent / zoom / size, 1))
    room[2] = max(room[2], 0.15)
    shift = rng.uniform(-1, 1, 3) * np.maximum(room, 0.08)
    theta = torch.from_numpy(np.concatenate([matrix, shift[:, None]], axis=1)[None]).float()
    return F.affine_grid(theta, [1, 1, *EXAMPLE_SHAPE], align_corners=False)


def _rotation(first: int, second: int, angle: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    turn = np.eye(3)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn[first, first], turn[first, second] = cosine, -sine
    turn[second, first], turn[second, second] = sine, cosine
    return turn


def _with_other_intensities(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the image with another contrast, brightness and noise."""
    gain = float(rng.uniform(0.85, 1.2))
    offset = float(rng.uniform(-0.06, 0.06))
    noise = float(rng.uniform(0, 0.05)) * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return (image * gain + offset + noise).clamp(-1, 1)


def _cut(image: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the example with a smaller field of view in some of the draws; the rest is air."""
    keep = torch.zeros_like(labels, dtype=torch.bool)
    slices = _slab(labels, rng)
    rows = _range(labels.shape[1], 36, _NARROW_SHARE, rng)
    columns = _range(labels.shape[2], 44, _NARROW_SHARE, rng)
    keep[slices, rows, columns] = True
    return torch.where(keep, image, _AIR), torch.where(keep, labels, 0)


def _disoriented(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the image upside down, back to front or on its side, without kidneys.

    A scan like that has wrong axes. The network learns to find nothing in it, so that it is noticed.
    """
    turns = (
        # Twice, because it is the most frequent error, and the least different from a scan with right axes.
        lambda scan: scan.flip(1),
        lambda scan: scan.flip(1),
        lambda scan: scan.flip(2),
        lambda scan: scan.flip(1, 2),
        lambda scan: scan.transpose(1, 2),
        lambda scan: scan.transpose(2, 3),
        lambda scan: scan.transpose(1, 3),
    )
    turned = turns[int(rng.integers(len(turns)))](image)
    return _fitted(turned), torch.zeros(EXAMPLE_SHAPE, dtype=torch.int64)


def _fitted(image: Tensor) -> Tensor:
    """Return the middle of an image (1, z, y, x), padded with air, in `EXAMPLE_SHAPE`."""
    fitted = torch.full((1, *EXAMPLE_SHAPE), _AIR)
    sizes = [min(a, b) for a, b in zip(image.shape[1:], EXAMPLE_SHAPE, strict=True)]
    source = tuple(slice((a - n) // 2, (a - n) // 2 + n) for a, n in zip(image.shape[1:], sizes, strict=True))
    target = tuple(slice((b - n) // 2, (b - n) // 2 + n) for b, n in zip(EXAMPLE_SHAPE, sizes, strict=True))
    fitted[(slice(None), *target)] = image[(slice(None), *source)]
    return fitted


def _slab(labels: Tensor, rng: np.random.Generator) -> slice:
    """Return the slices of a scan that ends at or within a kidney, or all slices."""
    if rng.random() > _CUT_SHARE:
        return slice(None)
    size = labels.shape[0]
    # Thin slabs are as frequent as thick ones, and half of all hold a slice with a kidney; drawn evenly, hardly any
    # thin slab would.
    length = round(math.exp(rng.uniform(math.log(MIN_SLICES), math.log(size))))
    first = int(rng.integers(0, size - length + 1))
    kidney = torch.nonzero(labels.any(dim=(1, 2)))[:, 0].tolist()
    if kidney and rng.random() < _AT_KIDNEY_SHARE:
        first = int(rng.choice(kidney)) - int(rng.integers(0, length))
    first = min(max(first, 0), size - length)
    return slice(first, first + length)


def _range(size: int, least: int, share: float, rng: np.random.Generator) -> slice:
    if rng.random() > share:
        return slice(None)
    length = int(rng.integers(least, size + 1))
    first = int(rng.integers(0, size - length + 1))
    return slice(first, first + length)
