"""Facts that show a wrong orientation or spacing of a scan: where the body is cut, lungs, shape of the kidneys."""

from typing import Any, Final

import numpy as np

from renalnet.data.cases.sides import BODY_HU, SIDE_VALUES, SIDES
from renalnet.data.images.grid import Volume
from renalnet.types import HuArray, MaskArray, Triple

LUNG_HU: Final = (-930, -650)
"""Range of the CT numbers of lung, between those of gas in bowel (below) and of tissue at an edge (above)."""
END_SHARE: Final = 0.1
"""Share of the slices at each end of a scan in which lung is measured."""
_STEP: Final = 4
"""A sixteenth of the voxels of a slice is enough for shares."""
_MIN_VOXELS: Final = 200
"""Voxels of a kidney from which its shape is measured."""


def shape_facts(image: Volume, sides: Volume) -> dict[str, Any]:
    """Return the fields of `CaseFacts` that this module measures.

    Args:
        image: canonical scan, int16 HU (z, y, x).
        sides: values of `SIDE_VALUES` of the labelled kidneys on a part of its voxels; 0 elsewhere.
    """
    feet, head = lung_shares(image.array)
    return {
        **dict(zip(("tissue_z", "tissue_y", "tissue_x"), face_shares(image.array), strict=True)),
        "lung_feet": feet,
        "lung_head": head,
        **{f"elongation_{side}": elongation(sides.array == SIDE_VALUES[side], sides.grid.spacing_mm) for side in SIDES},
    }


def face_shares(image: HuArray) -> Triple:
    """Return the share of body in the faces of a scan: for each axis (z, y, x) that of its emptier face, 0 to 1.

    A CT cuts a body at its first and last slice. In front, behind and at the sides it shows air around the body.
    """
    z, y, x = (
        min(float((np.take(image, end, axis=axis) > BODY_HU).mean()) for end in (0, -1)) for axis in range(image.ndim)
    )
    return round(z, 4), round(y, 4), round(x, 4)


def lung_shares(image: HuArray) -> tuple[float, float]:
    """Return the volume of lung relative to that of tissue in the first and in the last slices, towards feet and head.

    Only what lies between tissue in its row counts, because cushions on a table are as dense as lung.
    """
    num_slices = max(1, round(END_SHARE * len(image)))
    feet, head = (_lung_share(image[part, ::_STEP]) for part in (slice(num_slices), slice(-num_slices, None)))
    return feet, head


def _lung_share(slices: HuArray) -> float:
    body = slices > BODY_HU
    inside = np.logical_or.accumulate(body, axis=2) & np.logical_or.accumulate(body[:, :, ::-1], axis=2)[:, :, ::-1]
    lung = inside & (slices > LUNG_HU[0]) & (slices < LUNG_HU[1])
    num_body = int(np.count_nonzero(body))
    return round(int(np.count_nonzero(lung)) / max(num_body, 1), 4)


def elongation(mask: MaskArray, spacing_mm: Triple) -> float | None:
    """Return how far a kidney extends along z relative to its extent in-plane; None without a kidney.

    It is the ratio of the standard deviation of the voxels along z to the geometric mean of those along y and x. A
    factor in the spacing of the slices multiplies it, whatever the size of the kidney.
    """
    counts = [np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis})) for axis in range(mask.ndim)]
    if counts[0].sum() < _MIN_VOXELS:
        return None
    z, y, x = (_deviation(count) * step for count, step in zip(counts, spacing_mm, strict=True))
    return float(f"{z / (y * x) ** 0.5:.4g}") if y * x > 0 else None


def _deviation(counts: "np.ndarray[Any, np.dtype[np.int_]]") -> float:
    places = np.arange(len(counts))
    mean = np.average(places, weights=counts)
    return float(np.average((places - mean) ** 2, weights=counts) ** 0.5)
