"""A synthetic whole scan whose facts can be computed by hand, and functions that damage it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from renalnet.config import KIDNEY_TUMOR, PhantomConfig
from renalnet.data.cases.loading import LoadedCase
from renalnet.data.checks.case_facts import measure_case
from renalnet.data.checks.facts import CaseFacts
from renalnet.data.images.volume import Grid, Volume, read_volume
from renalnet.data.phantom import PaintedCase, paint_abdomen, paint_labels
from renalnet.types import HuArray, LabelArray
from support.label_values import KIDNEY, TUMOR

SHAPE = (40, 60, 100)
GRID = Grid.axis_aligned(SHAPE, (3.0, 3.0, 3.0))
RIGHT_KIDNEY = np.s_[8:33, 25:37, 20:32]
LEFT_KIDNEY = np.s_[8:33, 25:37, 68:80]
TUMOR_IN_LEFT = np.s_[15:21, 25:31, 68:74]


def sound_case(case: str = "a") -> LoadedCase:
    """Return a body of 40 HU with fat and bone in air.

    Each kidney has 3600 voxels, which are 97.2 ml; 216 voxels of the left one are tumor.
    """
    image = np.full(SHAPE, -1000, np.int16)
    label = np.zeros(SHAPE, np.uint8)
    image[:, 5:55, 5:95] = 40
    image[:, 15:45, 15:85] = -100
    image[:, 25:30, 48:52] = 800
    for kidney in (RIGHT_KIDNEY, LEFT_KIDNEY):
        image[kidney] = 200
        label[kidney] = KIDNEY
    image[TUMOR_IN_LEFT] = 60
    label[TUMOR_IN_LEFT] = TUMOR
    return LoadedCase(case, Volume(image, GRID), Volume(label, GRID), GRID, KIDNEY_TUMOR)


def sound_facts(case: str = "a") -> CaseFacts:
    """Return the facts of `sound_case`."""
    return measure_case(sound_case(case))


def with_image(loaded: LoadedCase, change: Callable[[HuArray], HuArray]) -> LoadedCase:
    """Return the case with another image."""
    image = change(loaded.image.array.copy())
    return replace(loaded, image=Volume(image.astype(np.int16), loaded.image.grid))


def with_label(loaded: LoadedCase, change: Callable[[LabelArray], LabelArray]) -> LoadedCase:
    """Return the case with another label map."""
    label = change(loaded.label.array.copy())
    return replace(loaded, label=Volume(label.astype(np.uint8), loaded.label.grid))


@cache
def painted_abdomens() -> tuple[LoadedCase, ...]:
    """Return three painted whole scans."""
    return tuple(_loaded(f"p{index}", paint_abdomen(PhantomConfig(contrast="narrow"), index)) for index in range(3))


@cache
def painted_rois(folder: Path) -> tuple[LoadedCase, ...]:
    """Return ROIs that are painted on the label maps of three real kidneys."""
    return tuple(islice(paint_all(folder), 3))


def paint_all(folder: Path) -> Iterator[LoadedCase]:
    """Yield ROIs that are painted on the label maps of a folder."""
    for index, file in enumerate(sorted(folder.glob("*.nii.gz"))):
        yield _loaded(file.name, paint_labels(read_volume(file), PhantomConfig(contrast="narrow"), index))


def _loaded(case: str, painted: PaintedCase) -> LoadedCase:
    return LoadedCase(case, painted.image, painted.label, painted.image.grid, KIDNEY_TUMOR)
