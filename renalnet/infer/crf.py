"""Dense conditional random field over an ROI, the step after the vote in Yang et al., ICPR 2018, II.B.

The field is that of Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", 2011. Two kernels couple each pair of voxels: one on position alone, which smooths, and one on
position and CT number, which lets labels follow edges. Positions are in mm, so that anisotropic voxels are
treated alike along all axes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from renalnet.config import CrfConfig
from renalnet.errors import ConfigError
from renalnet.types import BACKGROUND, NUM_CLASSES, FloatArray, HuArray, LabelArray, Triple

HU_RANGE = (-200, 500)
"""CT numbers are clipped to what the network sees; bone and air would fill the bilateral lattice."""
_LEAST_PROBABILITY = 1e-6
_MARGIN_WIDTHS = 4.0
"""Kernel widths kept around the plausible foreground: a Gaussian is 3e-4 of its peak there."""

Region = tuple[slice, ...]


def refine(probability: FloatArray, image_hu: HuArray, spacing_mm: Triple, config: CrfConfig) -> LabelArray:
    """Labels (z, y, x) after mean-field inference with Potts compatibility.

    Args:
        probability: (3, z, y, x), its argmax the vote. The unary energy is its negative logarithm.
        image_hu: CT numbers (z, y, x).
        spacing_mm: voxel spacing (z, y, x).
        config: `iterations` 0, or both weights 0, gives exactly the argmax of `probability`.

    Voxels far from where foreground could win are left at their argmax (see `_region`), which saves most of
    the time. It is an approximation, though no label of any tried ROI differed from those of the field over
    all of it. Where foreground can win nowhere, the vote is returned as it is.

    Raises:
        ConfigError: a field is asked for and pydensecrf is not installed.
    """
    labels: LabelArray = probability.argmax(axis=0).astype(np.uint8)
    if config.iterations == 0 or config.smooth_weight + config.bilateral_weight == 0:
        return labels
    region = _region(probability, spacing_mm, config)
    if region is not None:
        labels[region] = _mean_field(probability, image_hu, spacing_mm, config, region)
    return labels


def _region(probability: FloatArray, spacing_mm: Triple, config: CrfConfig) -> Region | None:
    """The box of voxels that could end as foreground, and a margin of `_MARGIN_WIDTHS` kernel widths.

    A normalised kernel of weight w moves the difference of two energies by about w at most, so a voxel
    whose log odds of foreground lie below minus the sum of the weights stays background; twice that sum is
    used.
    """
    log_odds_needed = 2 * (config.smooth_weight + config.bilateral_weight)
    threshold = min(0.01, float(np.exp(-log_odds_needed)))
    plausible = probability[BACKGROUND + 1 :].max(axis=0) > threshold * probability[BACKGROUND]
    if not plausible.any():
        return None
    width_mm = max(config.smooth_mm, config.bilateral_mm)
    return tuple(
        _span(plausible.any(axis=tuple({0, 1, 2} - {axis})), int(np.ceil(_MARGIN_WIDTHS * width_mm / step)))
        for axis, step in enumerate(spacing_mm)
    )


def _span(occupied: NDArray[np.bool_], margin: int) -> slice:
    found = np.flatnonzero(occupied)
    return slice(max(0, int(found[0]) - margin), min(len(occupied), int(found[-1]) + 1 + margin))


def _mean_field(
    probability: FloatArray, image_hu: HuArray, spacing_mm: Triple, config: CrfConfig, region: Region
) -> LabelArray:
    """Labels of the field over `region` alone; all arrays are those of the whole ROI."""
    inside = probability[(slice(None), *region)]
    field = _dense_crf(inside[0].size)
    unary = -np.log(np.maximum(inside, _LEAST_PROBABILITY)).reshape(NUM_CLASSES, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    position_mm = _position_mm(region, spacing_mm)
    if config.smooth_weight > 0:
        field.addPairwiseEnergy(position_mm / np.float32(config.smooth_mm), compat=config.smooth_weight)
    if config.bilateral_weight > 0:
        intensity = image_hu[region].clip(*HU_RANGE).astype(np.float32).reshape(1, -1)
        scaled = (position_mm / np.float32(config.bilateral_mm), intensity / np.float32(config.bilateral_hu))
        field.addPairwiseEnergy(np.concatenate(scaled), compat=config.bilateral_weight)
    marginals = np.asarray(field.inference(config.iterations)).reshape(inside.shape)
    labels: LabelArray = marginals.argmax(axis=0).astype(np.uint8)
    return labels


def _position_mm(region: Region, spacing_mm: Triple) -> FloatArray:
    """(3, voxels of the region), counted from the corner of the ROI.

    The filter works on a lattice fixed in space, so that counting from the region's corner would shift it and
    change labels.
    """
    axes = [np.arange(span.start, span.stop) * step for span, step in zip(region, spacing_mm, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).astype(np.float32)


def _dense_crf(num_voxels: int) -> Any:
    try:
        from pydensecrf.densecrf import DenseCRF
    except ImportError as error:
        raise ConfigError(
            f"the dense CRF needs pydensecrf, which is not installed ({error}); install pydensecrf2, "
            "or set the CRF's iterations to 0 to do without it"
        ) from error
    return DenseCRF(num_voxels, NUM_CLASSES)
