"""Dense CRF over an ROI, which follows the vote in Yang et al., ICPR 2018, II.B.

The model is that of Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
2011. Two kernels couple each pair of voxels. The kernel on position smooths; the bilateral kernel, on position and CT
number, lets labels follow edges. Positions are in mm, so that all axes of anisotropic voxels are treated alike.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from renalnet.config import CrfConfig
from renalnet.errors import ConfigError
from renalnet.inference.post_processing import Evidence
from renalnet.types import FloatArray, HuArray, LabelArray, MaskArray, Triple

CRF_HU_RANGE = (-200, 500)
"""CT numbers are clipped to this range, the default of PrepareConfig. Bone and air would fill the bilateral lattice."""
# Softmax in float32 can give exactly 0, whose logarithm is not finite.
_LEAST_PROBABILITY = 1e-6
_CONTEXT_WIDTHS = 0.5
"""Distance, in kernel widths, up to which voxels around those that can change are included. Compared with the dense CRF
over whole ROIs of 133×150×150 voxels (real label maps, painted, with soft errors in 0.6 % and 1.3 % of the voxels), at
least 99.96 % of the labels are equal. Of the voxels that the whole CRF changes, 99.8 % change alike; 99.99 % with a
distance of one width."""


def refine(probability: FloatArray, image_hu: HuArray, spacing_mm: Triple, config: CrfConfig) -> LabelArray:
    """Return the labels (z, y, x) after mean-field inference with Potts compatibility.

    Inference runs on the voxels whose label can change (see `_can_change`) and on those near them (`_CONTEXT_WIDTHS`).
    That is a fifth of an ROI where the network is sure. All other voxels keep their vote. Where no label can change, as
    in an empty mask of a sure network, the vote is returned.

    Args:
        probability: class probabilities (C, z, y, x) whose argmax is the vote. The unary energy is their negative
            logarithm.
        image_hu: CT numbers (z, y, x).
        spacing_mm: voxel spacing (z, y, x).
        config: with `iterations` 0, or both weights 0, the result is exactly the argmax of `probability`.

    Raises:
        ConfigError: the dense CRF is on and pydensecrf is not installed.
    """
    labels: LabelArray = probability.argmax(axis=0).astype(np.uint8)
    if config.iterations == 0 or config.smooth_weight + config.bilateral_weight == 0:
        return labels
    can_change = _can_change(probability, config)
    if not can_change.any():
        return labels
    reach_mm = _CONTEXT_WIDTHS * max(config.smooth_mm, config.bilateral_mm)
    included = _grown(can_change, [int(np.ceil(reach_mm / voxel_mm)) for voxel_mm in spacing_mm])
    found = _mean_field(probability, image_hu, spacing_mm, config, included)
    # The included neighbours only give context; their own result is discarded.
    labels[can_change] = found[can_change[included]]
    return labels


def apply(labels: LabelArray, evidence: Evidence, config: CrfConfig) -> LabelArray:
    """`refine` as an operation of post-processing. It starts from the vote's probabilities, so `labels` is not read."""
    del labels
    return refine(evidence.probability, evidence.image_hu, evidence.spacing_mm, config)


def _can_change(probability: FloatArray, config: CrfConfig) -> MaskArray:
    """Return the voxels (z, y, x) whose label can change.

    Through a normalised kernel of weight w, a voxel receives at most about w more for one class than for another. Each
    mean-field iteration adds this to the voxel's own energy, not to the result of the iteration before. So a voxel
    keeps its class if its two most probable classes differ in log probability by more than the sum of the weights.
    """
    highest = np.maximum(probability[0], probability[1])
    second = np.minimum(probability[0], probability[1])
    # Several times faster than a sort over the classes.
    for further in probability[2:]:
        np.maximum(second, np.minimum(highest, further), out=second)
        np.maximum(highest, further, out=highest)
    # NumPy 2 would compute with a float64 scalar in double precision, over the whole ROI.
    likeness = np.float32(np.exp(-(config.smooth_weight + config.bilateral_weight)))
    # The same least probability as in the unary energy, or the bound would not hold for the energies that are used.
    can_change: MaskArray = np.maximum(second, _LEAST_PROBABILITY) > likeness * highest
    return can_change


def _grown(mask: MaskArray, reach: Sequence[int]) -> MaskArray:
    """Return `mask` grown by a box of `reach` voxels (z, y, x) to both sides of each voxel."""
    grown = mask.copy()
    for axis, most in enumerate(reach):
        done = 0
        while done < most:
            shift = min(done + 1, most - done)  # larger shifts would leave gaps between the grown voxels
            # A copy, because voxels that were just reached must not grow again in the same shift.
            before = np.moveaxis(grown, axis, 0).copy()
            view = np.moveaxis(grown, axis, 0)
            view[shift:] |= before[:-shift]
            view[:-shift] |= before[shift:]
            done += shift
    return grown


def _mean_field(
    probability: FloatArray, image_hu: HuArray, spacing_mm: Triple, config: CrfConfig, included: MaskArray
) -> LabelArray:
    """Return the labels of the included voxels in (z, y, x) order; all arrays given are those of the whole ROI."""
    unary = -np.log(np.maximum(probability[:, included], _LEAST_PROBABILITY))
    crf = _dense_crf(*unary.shape)
    # pydensecrf accepts only contiguous float32.
    crf.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    position_mm = _position_mm(included, spacing_mm)
    # A kernel of weight 0 would change nothing but take as long as any other.
    if config.smooth_weight > 0:
        crf.addPairwiseEnergy(position_mm / np.float32(config.smooth_mm), compat=config.smooth_weight)
    if config.bilateral_weight > 0:
        intensity = image_hu[included].clip(*CRF_HU_RANGE).astype(np.float32)[None]
        scaled = (position_mm / np.float32(config.bilateral_mm), intensity / np.float32(config.bilateral_hu))
        crf.addPairwiseEnergy(np.concatenate(scaled), compat=config.bilateral_weight)
    labels: LabelArray = np.asarray(crf.inference(config.iterations)).argmax(axis=0).astype(np.uint8)
    return labels


def _position_mm(included: MaskArray, spacing_mm: Triple) -> FloatArray:
    """Return the positions (3, voxels) of the included voxels from the corner of the ROI.

    The filter works on a lattice that is fixed in space. Another origin would shift the lattice and change labels.
    """
    axes = zip(np.nonzero(included), spacing_mm, strict=True)
    return np.stack([along.astype(np.float32) * np.float32(voxel_mm) for along, voxel_mm in axes])


def _dense_crf(num_classes: int, num_voxels: int) -> Any:
    try:
        from pydensecrf.densecrf import DenseCRF
    except ImportError as error:
        raise ConfigError(
            f"the dense CRF needs pydensecrf, which is not installed ({error}); install pydensecrf2 or set "
            "crf.iterations to 0"
        ) from error
    return DenseCRF(num_voxels, num_classes)
