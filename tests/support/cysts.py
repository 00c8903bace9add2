"""The small cohort with a cyst in each kidney."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from renalnet.config import LabelSet, PrepareConfig
from renalnet.data.store.reader import Roi, Store
from renalnet.data.store.writer import write_store
from renalnet.types import Split
from support.balls import ball_roi
from support.label_sets import CYST

CYST_HU = 10
_SPLITS: list[Split] = ["train"] * 4 + ["validation"] * 2


def cyst_roi(case: str, split: Split, seed: int) -> Roi:
    """Return a ball whose first four rows along y are a cyst."""
    roi = ball_roi(case, split, seed)
    rows = np.arange(roi.label.shape[1])[:, None]
    first = np.flatnonzero(roi.label.any(axis=(0, 2)))[0]
    is_cyst = (roi.label > 0) & (rows < first + 4)
    noise = np.random.default_rng(seed).normal(0, 15, roi.image.shape)
    image = np.where(is_cyst, CYST_HU + noise, roi.image).astype(np.int16)
    return replace(roi, image=image, label=np.where(is_cyst, CYST, roi.label).astype(np.uint8))


def write_cyst_store(folder: Path, labels: LabelSet) -> Store:
    """Write four training and two validation patients."""
    rois = [cyst_roi(f"case_{number:05d}", split, number) for number, split in enumerate(_SPLITS)]
    return write_store(folder, rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut", labels=labels))
