"""Checks of cases that read well but cannot be right. Errors stop a preparation, warnings travel with it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from renalnet.data.ingest import LoadedCase
from renalnet.types import KIDNEY, TUMOR

MIN_SPACING_MM: Final = 0.1
MAX_SPACING_MM: Final = 10.0
PLAUSIBLE_KIDNEY_HU: Final = (0.0, 500.0)
"""Mean CT number of a kidney in any phase; the paper's enhance to 100-500 HU."""
MIN_KIDNEY_ML: Final = 20.0


@dataclass(frozen=True)
class Finding:
    """Something wrong with a case."""

    case: str
    level: Literal["error", "warning"]
    message: str

    def __str__(self) -> str:
        return f"{self.case}: {self.message}"


def check_case(loaded: LoadedCase) -> list[Finding]:
    """What is wrong with one case; an empty list if nothing is."""
    errors = [Finding(loaded.case, "error", message) for message in _errors(loaded)]
    return errors or [Finding(loaded.case, "warning", message) for message in _warnings(loaded)]


def _errors(loaded: LoadedCase) -> Iterator[str]:
    if not loaded.label.array.any():
        yield "the label is empty, neither kidney nor tumor; label the case or remove it"
    if loaded.image.array.min() == loaded.image.array.max():
        yield f"the image is constant ({loaded.image.array.flat[0]} HU); export the scan again"
    spacing = loaded.image.grid.spacing_mm
    if min(spacing) < MIN_SPACING_MM or max(spacing) > MAX_SPACING_MM:
        words = "×".join(f"{value:g}" for value in spacing)
        yield f"spacing {words} mm outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g}; correct the header"


def _warnings(loaded: LoadedCase) -> Iterator[str]:
    image, label = loaded.image.array, loaded.label.array
    kidney = label == KIDNEY
    if not kidney.any():
        yield "tumor but no kidney labelled"
    elif not PLAUSIBLE_KIDNEY_HU[0] <= (mean_hu := float(image[kidney].mean())) <= PLAUSIBLE_KIDNEY_HU[1]:
        low, high = PLAUSIBLE_KIDNEY_HU
        yield f"the kidney's mean of {mean_hu:.0f} HU is not within {low:.0f} to {high:.0f}; is it a CT?"
    volume_ml = np.count_nonzero(label) * loaded.label.grid.voxel_ml
    if volume_ml < MIN_KIDNEY_ML:
        yield f"only {volume_ml:.1f} ml labelled, less than {MIN_KIDNEY_ML:.0f}"
    if image.min() >= 0:
        yield "no CT number below 0; was the rescale intercept lost?"
    if np.any(label[[0, -1]] == TUMOR):
        yield "the tumor touches the first or last slice; the scan may have cut it"


def image_digest(loaded: LoadedCase) -> str:
    """A hash of the voxels of the image, by which `check_cohort` knows a scan that comes twice."""
    return hashlib.sha256(np.ascontiguousarray(loaded.image.array).tobytes()).hexdigest()


def label_digest(loaded: LoadedCase) -> str:
    """A hash of the voxels of the label."""
    return hashlib.sha256(np.ascontiguousarray(loaded.label.array).tobytes()).hexdigest()


def check_cohort(digests: Mapping[str, str]) -> list[Finding]:
    """What is wrong between cases, from their `image_digest`: a scan under two names may cross splits."""
    cases_of: defaultdict[str, list[str]] = defaultdict(list)
    for case, digest in sorted(digests.items()):
        cases_of[digest].append(case)
    return [
        Finding(
            case,
            "error",
            f"the same image as case '{first}'; keep one of them, or one patient is in two splits",
        )
        for first, *others in cases_of.values()
        for case in others
    ]
