"""Dense conditional random field over an ROI, the step after the vote in Yang et al., ICPR 2018, II.B.

The field is that of Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", 2011. Two kernels couple each pair of voxels: one on position alone, which smooths, and one on
position and CT number, which lets labels follow edges. Positions are in mm, so that anisotropic voxels are
treated alike along all axes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from renalnet.config import CrfConfig
from renalnet.errors import ConfigError
from renalnet.inference.post_processing import Evidence
from renalnet.types import NUM_CLASSES, FloatArray, HuArray, LabelArray, MaskArray, Triple

HU_RANGE = (-200, 500)
"""CT numbers are clipped to what the network sees; bone and air would fill the bilateral lattice."""
_LEAST_PROBABILITY = 1e-6
_CONTEXT_WIDTHS = 0.5
"""Kernel widths around the voxels that can change within which voxels take part. Against the field over whole ROIs of
133×150×150 voxels (real label maps, painted, with soft errors over 0.6 and 1.3 % of the voxels): labels equal in
99.96 % and more, of the voxels that the whole field changes 99.8 % changed alike; with a whole width 99.99 %."""


def refine(probability: FloatArray, image_hu: HuArray, spacing_mm: Triple, config: CrfConfig) -> LabelArray:
    """Labels (z, y, x) after mean-field inference with Potts compatibility.

    Args:
        probability: (3, z, y, x), its argmax the vote. The unary energy is its negative logarithm.
        image_hu: CT numbers (z, y, x).
        spacing_mm: voxel spacing (z, y, x).
        config: `iterations` 0, or both weights 0, gives exactly the argmax of `probability`.

    The field is inferred on the voxels whose label can change (see `_open`) and on those near them, which speak to
    them (`_CONTEXT_WIDTHS`): a fifth of an ROI where the network is sure. All others keep their vote. Where no label
    can change, as in an empty mask of a sure network, the vote is returned as it is.

    Raises:
        ConfigError: a field is asked for and pydensecrf is not installed.
    """
    labels: LabelArray = probability.argmax(axis=0).astype(np.uint8)
    if config.iterations == 0 or config.smooth_weight + config.bilateral_weight == 0:
        return labels
    can_change = _open(probability, config)
    if not can_change.any():
        return labels
    reach_mm = _CONTEXT_WIDTHS * max(config.smooth_mm, config.bilateral_mm)
    taking_part = _grown(can_change, [int(np.ceil(reach_mm / step)) for step in spacing_mm])
    found = _mean_field(probability, image_hu, spacing_mm, config, taking_part)
    labels[can_change] = found[can_change[taking_part]]
    return labels


def apply(labels: LabelArray, evidence: Evidence, config: CrfConfig) -> LabelArray:
    """`refine` as an operation of post-processing. It starts from the vote's probabilities, so `labels` is not read."""
    del labels
    return refine(evidence.probability, evidence.image_hu, evidence.spacing_mm, config)


def _open(probability: FloatArray, config: CrfConfig) -> MaskArray:
    """The voxels whose label can change (z, y, x).

    What reaches a voxel through a normalised kernel of weight w is at most about w for one class more than for another,
    and mean field adds it to the voxel's own energy anew in each iteration. So a voxel whose two most probable classes
    lie further apart in log probability than the sum of the weights keeps its class.
    """
    first, second, third = probability
    highest = np.maximum(np.maximum(first, second), third)
    middle = np.maximum(np.minimum(first, second), np.minimum(np.maximum(first, second), third))
    likeness = np.float32(np.exp(-(config.smooth_weight + config.bilateral_weight)))
    is_open: MaskArray = np.maximum(middle, _LEAST_PROBABILITY) > likeness * highest
    return is_open


def _grown(mask: MaskArray, reach: Sequence[int]) -> MaskArray:
    """`mask` and all voxels no further along each axis than `reach` (z, y, x): a box around every voxel."""
    grown = mask.copy()
    for axis, most in enumerate(reach):
        done = 0
        while done < most:
            step = min(done + 1, most - done)  # neighbours that are already there reach this far without a gap
            before = np.moveaxis(grown, axis, 0).copy()
            view = np.moveaxis(grown, axis, 0)
            view[step:] |= before[:-step]
            view[:-step] |= before[step:]
            done += step
    return grown


def _mean_field(
    probability: FloatArray, image_hu: HuArray, spacing_mm: Triple, config: CrfConfig, taking_part: MaskArray
) -> LabelArray:
    """Labels of the field on the voxels that take part, in (z, y, x) order; all arrays are those of the whole ROI."""
    unary = -np.log(np.maximum(probability[:, taking_part], _LEAST_PROBABILITY))
    field = _dense_crf(unary.shape[1])
    field.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    position_mm = _position_mm(taking_part, spacing_mm)
    if config.smooth_weight > 0:
        field.addPairwiseEnergy(position_mm / np.float32(config.smooth_mm), compat=config.smooth_weight)
    if config.bilateral_weight > 0:
        intensity = image_hu[taking_part].clip(*HU_RANGE).astype(np.float32)[None]
        scaled = (position_mm / np.float32(config.bilateral_mm), intensity / np.float32(config.bilateral_hu))
        field.addPairwiseEnergy(np.concatenate(scaled), compat=config.bilateral_weight)
    labels: LabelArray = np.asarray(field.inference(config.iterations)).argmax(axis=0).astype(np.uint8)
    return labels


def _position_mm(taking_part: MaskArray, spacing_mm: Triple) -> FloatArray:
    """(3, voxels), counted from the corner of the ROI.

    The filter works on a lattice fixed in space, so that counting from elsewhere would shift it and change labels.
    """
    axes = zip(np.nonzero(taking_part), spacing_mm, strict=True)
    return np.stack([along.astype(np.float32) * np.float32(step) for along, step in axes])


def _dense_crf(num_voxels: int) -> Any:
    try:
        from pydensecrf.densecrf import DenseCRF
    except ImportError as error:
        raise ConfigError(
            f"the dense CRF needs pydensecrf, which is not installed ({error}); install pydensecrf2, "
            "or set the CRF's iterations to 0 to do without it"
        ) from error
    return DenseCRF(num_voxels, NUM_CLASSES)
