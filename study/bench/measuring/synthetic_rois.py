"""Seeded synthetic ROIs that are cheap to paint, as a store for renalnet and as plain arrays for the peers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import KIDNEY_TUMOR, Normalisation, PrepareConfig
from renalnet.data.images.volume import Grid
from renalnet.data.store.reader import Roi, Store
from renalnet.data.store.writer import write_store
from renalnet.types import HuArray, LabelArray, MaskArray, Shape

ARRAYS: Final = "arrays"
STORE: Final = "store"
NORMALISATION: Final = "normalisation.json"
_TISSUE_HU: Final = (-80, 190, 60)
"""CT numbers of background, kidney and tumor."""
_NOISE_HU: Final = 14.0


@dataclass(frozen=True)
class RoiPainter:
    """Painter of a noisy ROI with a kidney and a tumor, as ellipsoids that are placed at random."""

    shape: Shape
    seed: int = 0

    def paint(self, number: int) -> tuple[HuArray, LabelArray]:
        """Return the image in HU and the label of a case, both (z, y, x)."""
        generator = np.random.default_rng([self.seed, number])
        label = np.zeros(self.shape, np.uint8)
        middle = generator.uniform(0.4, 0.6, 3)
        label[self._ellipsoid(middle, 0.28)] = KIDNEY_TUMOR.kidney.value
        label[self._ellipsoid(middle + generator.uniform(-0.1, 0.1, 3), 0.12)] = KIDNEY_TUMOR.tumor.value
        noise = generator.standard_normal(self.shape, np.float32) * np.float32(_NOISE_HU)
        tissue = np.array(_TISSUE_HU, np.float32)[label]
        return np.add(tissue, noise, out=noise).astype(np.int16), label

    def rois(self, num_cases: int) -> Iterator[Roi]:
        """Yield training cases, one at a time."""
        grid = Grid.axis_aligned(self.shape, (1.0, 0.65, 0.65))
        for number in range(num_cases):
            image, label = self.paint(number)
            yield Roi(f"case_{number:05d}", "train", image, label, grid, grid)

    def _ellipsoid(self, middle: NDArray[np.float64], radius: float) -> MaskArray:
        z, y, x = (
            ((np.arange(length) / length - centre) / radius) ** 2
            for length, centre in zip(self.shape, middle, strict=True)
        )
        inside: MaskArray = z[:, None, None] + y[:, None] + x < 1
        return inside


def write_rois(folder: Path, painter: RoiPainter, num_cases: int, *, arrays: bool = False, shard_mb: int = 64) -> Store:
    """Write cases as a store in `folder`; with `arrays` also as uncompressed .npy files, the peers' fastest input."""
    config = PrepareConfig(localise="cut", shard_mb=shard_mb)
    store = write_store(folder / STORE, painter.rois(num_cases), config)
    if arrays:
        (folder / ARRAYS).mkdir()
        for number in range(num_cases):
            # Painted again instead of kept, so that memory holds one ROI at a time.
            image, label = painter.paint(number)
            np.save(folder / ARRAYS / f"{number:05d}-image.npy", image)
            np.save(folder / ARRAYS / f"{number:05d}-label.npy", label)
        (folder / ARRAYS / NORMALISATION).write_text(json.dumps(vars(store.normalisation)), encoding="utf-8")
    return store


def read_arrays(folder: Path) -> tuple[list[tuple[Path, Path]], Normalisation]:
    """Return the (image, label) files of the cases, and the normalisation that a peer has to apply."""
    images = sorted((folder / ARRAYS).glob("*-image.npy"))
    pairs = [(image, image.with_name(image.name.replace("image", "label"))) for image in images]
    return pairs, Normalisation(**json.loads((folder / ARRAYS / NORMALISATION).read_text(encoding="utf-8")))
