"""Plausibility checks of a single case that could be read, based on its facts.

The thresholds are wide: they should find errors of scanners, exports and annotators, not rare anatomy. A finding is an
error only where the case would certainly harm the training.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from renalnet.data.cases.findings import Code, Finding, Level
from renalnet.data.cases.loading import AIR_HU, LoadedCase
from renalnet.data.cases.plausible_volumes import PLAUSIBLE_KIDNEY_ML, PLAUSIBLE_TUMOR_ML
from renalnet.data.checks.case_facts import FAT_HU, FRAGMENT_ML, NOT_TISSUE_HU, measure_case
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.checks.shape_checks import check_axes, check_elongation, slice_axis

MIN_SPACING_MM: Final = 0.1
MAX_SPACING_MM: Final = 10.0
"""Range of a plausible voxel spacing along any axis."""
MAX_ANISOTROPY: Final = 10.0
"""Largest ratio of two spacings. Clinics reconstruct at most 5 mm slices of 0.5 mm pixels."""
MAX_PIXEL_RATIO: Final = 1.01
"""Largest ratio of the in-plane spacings, because CT pixels are square."""
MIN_SLICES: Final = 16
MIN_LENGTH_MM: Final = 80.0
"""Shortest plausible scan along z. A kidney is about 110 mm long."""
MIN_HU_SPAN: Final = 100
"""Smallest plausible range of CT numbers. Fat and enhanced kidney alone differ by more."""
MAX_8BIT: Final = 255
PLAUSIBLE_KIDNEY_HU: Final = (0.0, 500.0)
"""Range of a kidney's mean in any phase: 13 HU in a real unenhanced CT of 3 mm voxels, 100-500 enhanced (paper)."""
SATURATED_HU: Final = 600.0
"""Mean above which a kidney is entirely above the paper's window of -200 to 500 HU."""
LOST_HU: Final = -300.0
"""Mean below which a kidney is entirely below the paper's window."""
MIN_MAX_HU: Final = 150
"""Smallest plausible maximum. Bone and enhanced vessels are brighter, even in the smallest ROI."""
MAX_AIR_SHARE: Final = 0.95
PLAUSIBLE_FAT_SHARE: Final = (0.02, 0.9)
"""Share of fat in the body. Measured: 0.21-0.52 of the background of ROIs of real kidneys, 0.41 in a whole real CT."""
MAX_NOT_TISSUE_SHARE: Final = 0.12
"""Share of fat and air in a labelled kidney above which a warning is given.

Measured: 0.04 in a real CT and 0.001 in painted ones; 0.09-0.28 for a label map shifted by 10 mm, 0.13-0.36 for a
mirrored one.
"""
SPOILT_NOT_TISSUE_SHARE: Final = 0.5
"""Share of fat and air in a labelled kidney above which the warning becomes an error."""
MAX_FRAGMENTS: Final = 5
MAX_SIDE_RATIO: Final = 4.0
"""Largest plausible ratio of the volumes of both kidneys."""
MAX_MIDLINE_OFFSET_MM: Final = 40.0
"""Largest plausible distance of the kidneys' middle from the body's. Measured: 0-4 mm in painted and real cases."""

NEAR_AIR_HU: Final = -500
"""CT number that separates air and lung from every other tissue."""

_MARGIN_HU: Final = 100.0
"""Allowance for an intercept of -1000 and for noise."""
_IS_CT: Final = "check that it is a CT, and not windowed"
_IS_NOT_CT: Final = "it seems to be an MR image, or windowed; use the CT numbers of a CT"
_Remark: TypeAlias = tuple[Level, Code, str]
"""Level, code and message of a finding."""


def check_case(loaded: LoadedCase) -> tuple[CaseFacts, list[Finding]]:
    """Return the facts of a case and its findings (see `judge`)."""
    facts = measure_case(loaded)
    return facts, judge(facts)


def judge(facts: CaseFacts) -> list[Finding]:
    """Return the errors of a case or, where there are none, its warnings.

    Warnings are left out beside an error because they mostly follow from it. A sound case gives an empty list.
    """
    remarks = [remark for check in _CHECKS for remark in check(facts)]
    errors = [remark for remark in remarks if remark[0] == "error"]
    return [Finding(facts.case, level, code, message) for level, code, message in errors or remarks]


def _check_spacing(facts: CaseFacts) -> Iterator[_Remark]:
    low = min(facts.spacing_mm)
    high = max(facts.spacing_mm)
    spacing = "×".join(f"{value:g}" for value in facts.spacing_mm)
    if low < MIN_SPACING_MM or high > MAX_SPACING_MM:
        rule = f"outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g}"
        yield "error", "spacing-range", f"spacing {spacing} mm {rule}; correct the header"
    # An impossible spacing has been reported already, and would often be anisotropic too.
    elif high > MAX_ANISOTROPY * low:
        rule = f"more than {MAX_ANISOTROPY:g} times coarser along one axis"
        yield "warning", "spacing-anisotropic", f"spacing {spacing} mm, {rule}; check the header or use thinner slices"
    _, row, column = facts.spacing_mm
    if max(row, column) > MAX_PIXEL_RATIO * min(row, column):
        axis = slice_axis(facts)
        cause = f": the slices seem to lie along the axis {axis}; correct" if axis else "; check"
        yield "warning", "spacing-pixels", f"pixels of {row:g}×{column:g} mm are not square{cause} the header"


def _check_length(facts: CaseFacts) -> Iterator[_Remark]:
    length_mm = facts.field_mm[0]
    if facts.num_slices < MIN_SLICES or length_mm < MIN_LENGTH_MM:
        rule = f"less than {MIN_SLICES} slices or less than the {MIN_LENGTH_MM:g} mm that a kidney needs"
        message = f"{facts.num_slices} slices, {length_mm:g} mm, {rule}; check whether the scan is complete"
        yield "warning", "few-slices", message


def _check_image(facts: CaseFacts) -> Iterator[_Remark]:
    """Check the image; the finer checks run only where the values can be CT numbers."""
    impossible = list(_check_scale(facts))
    yield from impossible or (*_check_intensities(facts), *_check_place(facts))


def _check_scale(facts: CaseFacts) -> Iterator[_Remark]:
    """Yield the first reason why the values cannot be CT numbers."""
    low = facts.hu_min
    high = facts.hu_max
    # Without a kidney its mean is unknown; 0 HU is plausible, so that the last three branches do not apply.
    kidney = 0.0 if facts.kidney_hu is None else facts.kidney_hu
    # The order matters: a constant image also has a small span, and only the first reason is reported.
    if low == high:
        yield "error", "image-constant", f"the image is constant ({low} HU); export the scan again"
    elif high - low < MIN_HU_SPAN:
        rule = f"a CT spans more than {MIN_HU_SPAN}"
        yield "error", "hu-scale", f"values from {low} to {high}, {rule}; export CT numbers, not scaled ones"
    elif low >= 0 and high <= MAX_8BIT:
        yield "error", "hu-8bit", f"values from {low} to {high} are those of an 8-bit picture; export CT numbers"
    # Without the intercept, a kidney is at 1024 to 1524; one of an MR image may be anywhere.
    elif low > FAT_HU[1] and not facts.is_cut and not _lacks_intercept(kidney):
        rule = f"but fat is near -100 HU and the air around a patient near -1000 in a CT; {_IS_NOT_CT}"
        yield "error", "not-ct", f"no value below {low}, {rule}"
    # Without the intercept even air is near 0 HU; with a slope applied twice air stays far below.
    elif kidney > SATURATED_HU and low > LOST_HU:
        rule = f"above {SATURATED_HU:g}, and no value is below {low}"
        yield "error", "hu-offset", f"kidney mean {kidney:.0f} HU {rule}; apply the rescale intercept (usually -1024)"
    elif kidney > SATURATED_HU:
        message = f"kidney mean {kidney:.0f} HU above {SATURATED_HU:g}; check whether the slope was applied twice"
        yield "error", "hu-scale", message
    # The percentile separates this from a sound image whose label map lies on lung or air.
    elif kidney < LOST_HU and facts.hu_p99 < 0:
        rule = f"below {LOST_HU:g}, and 99 % of the values are below 0"
        message = f"kidney mean {kidney:.0f} HU {rule}; check whether the intercept was applied twice"
        yield "error", "hu-offset", message


def _lacks_intercept(kidney_hu: float) -> bool:
    low, high = PLAUSIBLE_KIDNEY_HU
    return low - _MARGIN_HU <= kidney_hu + AIR_HU <= high


def _check_intensities(facts: CaseFacts) -> Iterator[_Remark]:
    if facts.hu_min > NEAR_AIR_HU and not facts.is_cut:
        rule = f"but a CT shows air near -1000 HU; {_IS_NOT_CT}"
        yield "warning", "hu-no-air", f"no value below {facts.hu_min} HU, {rule}"
    if facts.hu_min >= 0:
        message = f"no value below 0 HU, but fat and air have negative values; {_IS_CT}"
        yield "warning", "hu-nonnegative", message
    if facts.hu_max < MIN_MAX_HU:
        rule = f"but bone and contrast agent exceed {MIN_MAX_HU}"
        yield "warning", "hu-max", f"no value above {facts.hu_max} HU, {rule}; {_IS_CT}"
    if facts.air_share > MAX_AIR_SHARE:
        rule = f"more than {MAX_AIR_SHARE:.0%}"
        yield "warning", "hu-air", f"{facts.air_share:.0%} of the image is air, {rule}; crop it or check the scan"
    low, high = PLAUSIBLE_FAT_SHARE
    if not low <= facts.fat_share <= high:
        rule = f"not {low:.0%} to {high:.0%}"
        yield "warning", "hu-fat", f"{facts.fat_share:.1%} of the body is fat, {rule}; check the rescale slope"


def _check_labelled(facts: CaseFacts) -> Iterator[_Remark]:
    if facts.kidney_hu is not None:
        return
    if facts.tumor_ml == 0:
        message = "the label map is empty, it has neither kidney nor tumor; label the case or remove it"
        yield "error", "label-empty", message
    else:
        yield "warning", "label-no-kidney", "the label map has a tumor but no kidney; label the kidney"


def _check_place(facts: CaseFacts) -> Iterator[_Remark]:
    """Check that the labelled kidney is on kidney tissue and not beside it."""
    # Both are None together, which a type checker cannot know.
    if facts.kidney_hu is None or facts.kidney_not_tissue_share is None:
        return
    low, high = PLAUSIBLE_KIDNEY_HU
    if not low <= facts.kidney_hu <= high:
        rule = f"not within {low:.0f} to {high:.0f}"
        message = (
            f"kidney mean {facts.kidney_hu:.0f} HU, {rule}; check that the image is a CT and the label map its own"
        )
        yield "warning", "kidney-hu", message
    share = facts.kidney_not_tissue_share
    if share > MAX_NOT_TISSUE_SHARE:
        level: Level = "error" if share > SPOILT_NOT_TISSUE_SHARE else "warning"
        rule = f"below {NOT_TISSUE_HU} HU, more than {MAX_NOT_TISSUE_SHARE:.0%}"
        remedy = "check whether the label map is shifted or mirrored"
        message = f"{share:.0%} of the labelled kidney is fat or air ({rule}); {remedy}"
        yield level, "label-shifted", message


def _check_volumes(facts: CaseFacts) -> Iterator[_Remark]:
    kidneys = {"left kidney": facts.kidney_left_ml, "right kidney": facts.kidney_right_ml}
    # In an ROI already cut the sides are guesses, which may divide one kidney between both.
    if facts.is_cut:
        kidneys = {"kidney": facts.kidney_ml}
    low, high = PLAUSIBLE_KIDNEY_ML
    for name, volume_ml in kidneys.items():
        # 0 ml gives no warning, because some patients have only one kidney.
        if volume_ml and not low <= volume_ml <= high:
            message = f"{name} of {volume_ml:.1f} ml, not {low:g} to {high:g}; check the label"
            yield "warning", "kidney-volume", message
    low, high = PLAUSIBLE_TUMOR_ML
    if facts.tumor_ml and not low <= facts.tumor_ml <= high:
        message = f"tumor of {facts.tumor_ml:.2f} ml, not {low:g} to {high:g}; check the label"
        yield "warning", "tumor-volume", message


def _check_components(facts: CaseFacts) -> Iterator[_Remark]:
    # Without any kidney the whole tumor is detached, which `_check_labelled` has reported.
    if facts.tumor_detached_ml >= FRAGMENT_ML and facts.kidney_hu is not None:
        message = f"{facts.tumor_detached_ml:.1f} ml of tumor touch no kidney; label the kidney or remove that tumor"
        yield "warning", "tumor-detached", message
    if facts.num_fragments > MAX_FRAGMENTS:
        rule = f"below {FRAGMENT_ML:g} ml, more than {MAX_FRAGMENTS}"
        message = f"{facts.num_fragments} labelled fragments ({rule}); clean the label map"
        yield "warning", "label-fragments", message
    if facts.label_faces:
        faces = facts.label_faces.replace(" ", ", ")
        message = f"labelled voxels touch the border of the image ({faces}); check whether the scan cuts the kidney"
        yield "warning", "label-cut", message


def _check_sides(facts: CaseFacts) -> Iterator[_Remark]:
    if facts.midline_offset_mm is None:
        return
    small, large = sorted((facts.kidney_left_ml, facts.kidney_right_ml))
    if large > MAX_SIDE_RATIO * small:
        rule = f"more than {MAX_SIDE_RATIO:g} times the other"
        yield "warning", "left-right", f"kidneys of {small:.1f} and {large:.1f} ml, one {rule}; check the label"
    offset_mm = facts.midline_offset_mm
    if abs(offset_mm) > MAX_MIDLINE_OFFSET_MM:
        side = "left" if offset_mm > 0 else "right"
        rule = f"more than {MAX_MIDLINE_OFFSET_MM:g}"
        distance = f"{abs(offset_mm):.0f} mm too far to the {side}"
        message = f"the kidneys are {distance}, {rule}; check whether the label map is mirrored"
        yield "warning", "left-right", message


_CHECKS: Final[tuple[Callable[[CaseFacts], Iterator[_Remark]], ...]] = (
    _check_spacing,
    _check_length,
    check_axes,
    check_elongation,
    _check_image,
    _check_labelled,
    _check_volumes,
    _check_components,
    _check_sides,
)
