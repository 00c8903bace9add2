"""Checks of a case that reads well but cannot be right, from its facts.

Thresholds are wide: they are to find what a scanner, an export or a hand got wrong, not a rare patient. An
error is what would spoil the training for certain.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from renalnet.data.cases.findings import Code, Finding, Level
from renalnet.data.cases.loading import LoadedCase
from renalnet.data.cases.sides import PLAUSIBLE_KIDNEY_ML
from renalnet.data.checks.case_facts import FRAGMENT_ML, NOT_TISSUE_HU, measure_case
from renalnet.data.checks.facts import CaseFacts

MIN_SPACING_MM: Final = 0.1
MAX_SPACING_MM: Final = 10.0
MAX_ANISOTROPY: Final = 10.0
"""5 mm slices of 0.5 mm pixels are the most extreme that clinics reconstruct."""
MAX_PIXEL_RATIO: Final = 1.01
"""CT pixels are square."""
MIN_SLICES: Final = 16
MIN_LENGTH_MM: Final = 80.0
"""A kidney is about 110 mm long."""
MIN_HU_SPAN: Final = 100
"""Fat and contrasted kidney alone are further apart."""
MAX_8BIT: Final = 255
PLAUSIBLE_KIDNEY_HU: Final = (0.0, 500.0)
"""Mean of a kidney in any phase: 13 HU in a real unenhanced CT of 3 mm voxels, 100-500 enhanced (paper)."""
SATURATED_HU: Final = 600.0
"""A kidney this bright lies wholly above the paper's window of -200 to 500 HU."""
LOST_HU: Final = -300.0
"""A kidney this dark lies wholly below it."""
MIN_MAX_HU: Final = 150
"""Bone and contrasted vessels are brighter, in the smallest ROI too."""
MAX_AIR_SHARE: Final = 0.95
PLAUSIBLE_FAT_SHARE: Final = (0.02, 0.9)
"""Measured: 0.21-0.52 of the background of ROIs of real kidneys, 0.41 in a whole real CT."""
MAX_NOT_TISSUE_SHARE: Final = 0.12
"""Measured: 0.04 in a real CT, 0.001 in painted ones; 0.09-0.28 for a label 10 mm off, 0.13-0.36 mirrored."""
SPOILT_NOT_TISSUE_SHARE: Final = 0.5
PLAUSIBLE_TUMOR_ML: Final = (1.0, 500.0)
"""2-145 ml in the paper, 1.7-245 in the 110 patients."""
MAX_FRAGMENTS: Final = 5
MAX_SIDE_RATIO: Final = 4.0
MAX_MIDLINE_OFFSET_MM: Final = 40.0
"""Measured: 0-4 mm in painted patients and a real one."""

_Remark: TypeAlias = tuple[Level, Code, str]


def check_case(loaded: LoadedCase) -> tuple[CaseFacts, list[Finding]]:
    """Measure a case and judge it (see `judge`)."""
    facts = measure_case(loaded)
    return facts, judge(facts)


def judge(facts: CaseFacts) -> list[Finding]:
    """What is wrong with one case: its errors or, if there are none, its warnings; empty if nothing is."""
    remarks = [remark for check in _CHECKS for remark in check(facts)]
    errors = [remark for remark in remarks if remark[0] == "error"]
    return [Finding(facts.case, level, code, message) for level, code, message in errors or remarks]


def _check_spacing(facts: CaseFacts) -> Iterator[_Remark]:
    low, high = min(facts.spacing_mm), max(facts.spacing_mm)
    words = "×".join(f"{value:g}" for value in facts.spacing_mm)
    if low < MIN_SPACING_MM or high > MAX_SPACING_MM:
        rule = f"outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g}"
        yield "error", "spacing-range", f"spacing {words} mm {rule}; correct the header"
    elif high > MAX_ANISOTROPY * low:
        rule = f"more than {MAX_ANISOTROPY:g} times coarser along one axis"
        yield "warning", "spacing-anisotropic", f"spacing {words} mm, {rule}; check the header or use thinner slices"
    _, row, column = facts.spacing_mm
    if max(row, column) > MAX_PIXEL_RATIO * min(row, column):
        yield "warning", "spacing-pixels", f"pixels of {row:g}×{column:g} mm are not square; check the header"


def _check_length(facts: CaseFacts) -> Iterator[_Remark]:
    length_mm = facts.field_mm[0]
    if facts.num_slices < MIN_SLICES or length_mm < MIN_LENGTH_MM:
        rule = f"less than {MIN_SLICES} or than the {MIN_LENGTH_MM:g} mm that a kidney needs"
        yield "warning", "few-slices", f"{facts.num_slices} slices, {length_mm:g} mm, {rule}; is the scan complete?"


def _check_image(facts: CaseFacts) -> Iterator[_Remark]:
    """Only values that can be CT numbers are looked at more closely."""
    impossible = list(_check_scale(facts))
    yield from impossible or (*_check_intensities(facts), *_check_place(facts))


def _check_scale(facts: CaseFacts) -> Iterator[_Remark]:
    """The first reason why the values cannot be CT numbers."""
    low, high = facts.hu_min, facts.hu_max
    kidney = 0.0 if facts.kidney_hu is None else facts.kidney_hu
    if low == high:
        yield "error", "image-constant", f"the image is constant ({low} HU); export the scan again"
    elif high - low < MIN_HU_SPAN:
        rule = f"a CT spans more than {MIN_HU_SPAN}"
        yield "error", "hu-scale", f"values from {low} to {high}, {rule}; export CT numbers, not scaled ones"
    elif low >= 0 and high <= MAX_8BIT:
        yield "error", "hu-8bit", f"values from {low} to {high} are an 8-bit picture's; export CT numbers"
    elif kidney > SATURATED_HU and low > LOST_HU:
        rule = f"above {SATURATED_HU:g}, and no value is below {low}"
        yield "error", "hu-offset", f"kidney mean {kidney:.0f} HU {rule}; apply the rescale intercept (mostly -1024)"
    elif kidney > SATURATED_HU:
        yield "error", "hu-scale", f"kidney mean {kidney:.0f} HU above {SATURATED_HU:g}; was the slope applied twice?"
    elif kidney < LOST_HU and facts.hu_p99 < 0:
        rule = f"below {LOST_HU:g}, and 99 % of the values are below 0"
        yield "error", "hu-offset", f"kidney mean {kidney:.0f} HU {rule}; was the intercept applied twice?"


def _check_intensities(facts: CaseFacts) -> Iterator[_Remark]:
    if facts.hu_min >= 0:
        yield "warning", "hu-nonnegative", "no value below 0 HU, where fat and air lie; is it a CT, and not windowed?"
    if facts.hu_max < MIN_MAX_HU:
        rule = f"bone and contrast exceed {MIN_MAX_HU}"
        yield "warning", "hu-max", f"no value above {facts.hu_max} HU, {rule}; is it a CT, and not windowed?"
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
        message = "the label is empty, neither kidney nor tumor; label the case or remove it"
        yield "error", "label-empty", message
    else:
        yield "warning", "label-no-kidney", "tumor but no kidney labelled; label the kidney"


def _check_place(facts: CaseFacts) -> Iterator[_Remark]:
    """Whether the label lies on kidney and not beside it."""
    if facts.kidney_hu is None or facts.kidney_not_tissue_share is None:
        return
    low, high = PLAUSIBLE_KIDNEY_HU
    if not low <= facts.kidney_hu <= high:
        rule = f"not within {low:.0f} to {high:.0f}"
        yield "warning", "kidney-hu", f"kidney mean {facts.kidney_hu:.0f} HU, {rule}; is it a CT, and the right label?"
    share = facts.kidney_not_tissue_share
    if share > MAX_NOT_TISSUE_SHARE:
        level: Level = "error" if share > SPOILT_NOT_TISSUE_SHARE else "warning"
        rule = f"below {NOT_TISSUE_HU} HU, more than {MAX_NOT_TISSUE_SHARE:.0%}"
        message = f"{share:.0%} of the labelled kidney is fat or air ({rule}); is the label shifted or mirrored?"
        yield level, "label-shifted", message


def _check_volumes(facts: CaseFacts) -> Iterator[_Remark]:
    kidneys = {"left kidney": facts.kidney_left_ml, "right kidney": facts.kidney_right_ml}
    if facts.is_cut:
        kidneys = {"kidney": facts.kidney_ml}
    low, high = PLAUSIBLE_KIDNEY_ML
    for name, volume_ml in kidneys.items():
        if volume_ml and not low <= volume_ml <= high:
            message = f"{name} of {volume_ml:.1f} ml, not {low:g} to {high:g}; check the label"
            yield "warning", "kidney-volume", message
    low, high = PLAUSIBLE_TUMOR_ML
    if facts.tumor_ml and not low <= facts.tumor_ml <= high:
        message = f"tumor of {facts.tumor_ml:.2f} ml, not {low:g} to {high:g}; check the label"
        yield "warning", "tumor-volume", message


def _check_components(facts: CaseFacts) -> Iterator[_Remark]:
    if facts.tumor_detached_ml >= FRAGMENT_ML and facts.kidney_hu is not None:
        message = f"{facts.tumor_detached_ml:.1f} ml of tumor touch no kidney; label the kidney or remove them"
        yield "warning", "tumor-detached", message
    if facts.num_fragments > MAX_FRAGMENTS:
        rule = f"below {FRAGMENT_ML:g} ml, more than {MAX_FRAGMENTS}"
        message = f"{facts.num_fragments} labelled fragments ({rule}); clean the label"
        yield "warning", "label-fragments", message
    if facts.label_faces:
        faces = facts.label_faces.replace(" ", ", ")
        message = f"labelled voxels reach the end of the image ({faces}); the scan may have cut the kidney"
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
        message = f"the kidneys lie {abs(offset_mm):.0f} mm too far to the {side}, {rule}; is the label mirrored?"
        yield "warning", "left-right", message


_CHECKS: Final[tuple[Callable[[CaseFacts], Iterator[_Remark]], ...]] = (
    _check_spacing,
    _check_length,
    _check_image,
    _check_labelled,
    _check_volumes,
    _check_components,
    _check_sides,
)
