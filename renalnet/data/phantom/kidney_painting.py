"""Painting of the kidneys of a label map as a contrast CT shows them: fat, vessels, parenchyma and tumors."""

import math
from typing import Final

import numpy as np

from renalnet.config import LabelSet
from renalnet.data.phantom.body import Canvas
from renalnet.data.phantom.coordinates import Region
from renalnet.data.phantom.imaging.random_fields import smooth_field
from renalnet.data.phantom.imaging.tissue import TumorKind
from renalnet.data.phantom.imaging.tumor import draw_kind, tumor_hu
from renalnet.data.phantom.kidney import parenchyma_hu
from renalnet.types import FloatArray, LabelArray, MaskArray

_FLUID_HU: Final = (-5.0, 20.0)
"""Range of the means of lesions without looks of their own: simple cysts, which hold fluid like water."""
SLACK_LEVEL: Final = 1.2
"""Level of a random field of standard deviation 1 above which the outermost voxels of a label show fat: 12 %."""
SINUS_MM: Final = 9.0
"""Half the width up to which a hollow of the kidney is painted as its sinus."""


def paint_kidneys(
    canvas: Canvas,
    label: LabelArray,
    labels: LabelSet,
    kind_quantile: float,
    rng: np.random.Generator,
) -> list[tuple[TumorKind, float]]:
    """Paint the organs of a label map: fat around them, then vessels, sinus, parenchyma and tumors.

    Args:
        canvas: the painted body; changed in place.
        label: values of `labels` (z, y, x), of which at least one is a kidney or its lesion.
        labels: meaning of the values.
        kind_quantile: quantile of the largest tumor's kind in the mixture of kinds; others are drawn from `rng`.
        rng: generator of the patterns.

    Returns:
        Kind and volume in ml of each tumor, the largest first.
    """
    import edt

    space = canvas.space
    enhancement = canvas.enhancement
    organ = labels.body_mask(label)
    gap = edt.edt(~organ, anisotropy=space.spacing_mm)
    _clear_fat(canvas, gap, rng)
    _paint_pedicles(canvas, organ)
    # The margin holds the dilated organ.
    region = _bounding_box(organ, space.spacing_mm, SINUS_MM + 2)
    # A closing: the organ is dilated and eroded by one length, which fills hollows up to twice as wide.
    depth = edt.edt(np.ascontiguousarray(gap[region] < SINUS_MM), anisotropy=space.spacing_mm) - SINUS_MM
    # Not above 0, because rounding to voxels leaves small depths outside a convex outline too.
    sinus = (depth > 1.0) & ~organ[region]
    box = (depth.shape[0], depth.shape[1], depth.shape[2])
    vessels = smooth_field(rng, box, space.spacing_mm, 9.0)
    # The field is Gaussian: it exceeds 0.9 in 18 % of the sinus, and is below -1 in 16 %.
    canvas.hu[region][sinus] = np.where(vessels[sinus] > 0.9, enhancement.vein, enhancement.fat + 15)
    canvas.hu[region][sinus & (vessels < -1.0)] = enhancement.urine
    kidney = label[region] == labels.kidney.value
    canvas.hu[region][kidney] = parenchyma_hu(depth, space.spacing_mm, enhancement, rng)[kidney]
    # A generator of its own, so that the tumors of a case do not depend on the other labels.
    _paint_others(canvas, label, labels, rng.spawn(1)[0])
    return _paint_tumors(canvas, label == labels.tumor.value, kind_quantile, rng)


def paint_slack(canvas: Canvas, kidney: MaskArray, rng: np.random.Generator) -> None:
    """Paint patches of the outermost voxels of a kidney's label as fat.

    Annotators draw contours that reach into the fat here and there: the published statistics of labelled kidneys and
    tumors begin at -79 HU.
    """
    from scipy import ndimage

    region = _bounding_box(kidney, canvas.space.spacing_mm, 3.0)
    inside = kidney[region]
    outermost = inside & ~ndimage.binary_erosion(inside)
    box = (inside.shape[0], inside.shape[1], inside.shape[2])
    patches = smooth_field(rng, box, canvas.space.spacing_mm, 7.0) > SLACK_LEVEL
    canvas.hu[region][outermost & patches] = canvas.enhancement.fat


def _paint_others(canvas: Canvas, label: LabelArray, labels: LabelSet, rng: np.random.Generator) -> None:
    """Paint each connected piece of every label beside kidney and tumor: lesions as fluid, structures as vessels."""
    from scipy import ndimage

    vein_hu = canvas.enhancement.vein
    for each in labels.labels:
        if each in (labels.kidney, labels.tumor):
            continue
        low, high = each.painted_hu or (_FLUID_HU if each.lesion_of else (vein_hu, vein_hu))
        pieces, num_pieces = ndimage.label(label == each.value, np.ones((3, 3, 3)))
        # Number 0 is everything outside the label.
        means = np.concatenate([[0.0], rng.uniform(low, high, num_pieces)])
        inside = pieces > 0
        canvas.hu[inside] = means[pieces[inside]]


def _paint_pedicles(canvas: Canvas, organ: MaskArray) -> None:
    """Paint the renal artery and vein from the great vessels to the middle of each kidney, outside the kidney only."""
    space = canvas.space
    z = np.broadcast_to(space.z, space.shape)
    for outwards in (-1, 1):
        kidney = organ & (space.x * outwards > 20)
        if not kidney.any():
            continue
        hilum = (float(z[kidney].mean()), float(space.y[kidney].mean()), float(space.x[kidney].mean()))
        for start, radius_mm, mean_hu in (
            # y and x are those of the great vessels in `body`.
            ((hilum[0] + 6, 18.0, -20.0), 5.5, canvas.enhancement.vein),
            ((hilum[0] + 12, 22.0, 9.0), 3.2, canvas.enhancement.aorta),
        ):
            region, mask = space.tube(start, hilum, radius_mm)
            canvas.fill(region, mask & ~organ[region] & ~canvas.firm[region], mean_hu)


def _clear_fat(canvas: Canvas, gap_mm: FloatArray, rng: np.random.Generator) -> None:
    space = canvas.space
    thickness = canvas.habitus.perirenal_fat * (1 + 0.65 * smooth_field(rng, space.shape, space.spacing_mm, 38.0))
    thickness[canvas.firm] *= 0.6
    cleared = gap_mm < thickness
    canvas.hu[cleared] = canvas.enhancement.fat + 9 * canvas.texture[cleared]


def _bounding_box(mask: MaskArray, spacing_mm: tuple[float, ...], margin_mm: float) -> Region:
    slices = []
    for axis, spacing in enumerate(spacing_mm):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = math.ceil(margin_mm / spacing)
        # A negative start would count from the end; a stop beyond the end does no harm.
        slices.append(slice(max(int(hit[0]) - margin, 0), int(hit[-1]) + margin + 1))
    return slices[0], slices[1], slices[2]


def _paint_tumors(
    canvas: Canvas, tumor: MaskArray, kind_quantile: float, rng: np.random.Generator
) -> list[tuple[TumorKind, float]]:
    """Paint each connected tumor by its own draw from the mixture of kinds, the largest by `kind_quantile`."""
    import edt
    from scipy import ndimage

    spacing = canvas.space.spacing_mm
    tumors: list[tuple[TumorKind, float]] = []
    components, num_tumors = ndimage.label(tumor, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=num_tumors + 1)[1:]
    for number in np.argsort(-sizes) + 1:
        kind = draw_kind(kind_quantile if not tumors else float(rng.random()))
        inside = components == number
        # edt does not take the border of an array for a surface, so the box needs a margin.
        region = _bounding_box(inside, spacing, 3.0)
        mask = np.ascontiguousarray(inside[region])
        hu = tumor_hu(kind, edt.edt(mask, anisotropy=spacing), spacing, canvas.enhancement, rng)
        canvas.hu[region][mask] = hu[mask]
        tumors.append((kind, float(sizes[number - 1]) * math.prod(spacing) / 1000))
    return tumors
