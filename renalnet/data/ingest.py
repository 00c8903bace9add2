"""Scans and labels on disk to cases in the inner geometry. Nothing is resized; of headers, only geometry.

Folder layouts (each a function from a folder to its cases, or none where the folder is not laid out so):
    KiTS               SRC/<case>/imaging.nii.gz, SRC/<case>/segmentation.nii.gz
    Decathlon, nnU-Net SRC/imagesTr/<case>.nii.gz or <case>_0000.nii.gz, SRC/labelsTr/<case>.nii.gz
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.volume import Grid, Volume, canonical, grid_difference, read_volume
from renalnet.errors import InputError
from renalnet.types import LABEL_NAMES, HuArray, LabelArray

AIR_HU: Final = -1024
"""The lowest CT number kept: scanners pad outside their field of view with lower ones."""
_SUFFIXES: Final = (".nii.gz", ".nii")
_INT16_MAX: Final = int(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class ScanCase:
    """Where a patient's scan and label lie."""

    case: str
    image: Path
    label: Path


@dataclass(frozen=True)
class LoadedCase:
    """A patient in the inner geometry."""

    case: str
    image: Volume
    """int16 HU, canonical."""
    label: Volume
    """uint8, canonical, on the image's grid."""
    source: Grid
    """The grid that the image's file states."""


def find_cases(src: str | Path) -> list[ScanCase]:
    """The labelled cases of a folder, sorted by name.

    Raises:
        InputError: the folder is missing or of no known layout, or an image or label lacks its partner.
    """
    folder = Path(src)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder that holds the cases")
    for layout in _LAYOUTS:
        cases = layout(folder)
        if cases:
            return cases
    raise InputError(
        f"{folder}: holds no cases; expected <case>/imaging.nii.gz with <case>/segmentation.nii.gz, "
        "or imagesTr/ with labelsTr/"
    )


def _kits(folder: Path) -> list[ScanCase]:
    found = []
    for case in sorted(path for path in folder.iterdir() if path.is_dir()):
        image, label = _file(case, "imaging"), _file(case, "segmentation")
        if image or label:
            found.append(_pair(case.name, image, label, case))
    return found


def _decathlon(folder: Path) -> list[ScanCase]:
    images = {name.removesuffix("_0000"): path for name, path in _files(folder / "imagesTr").items()}
    labels = _files(folder / "labelsTr")
    names = sorted(images.keys() | labels.keys())
    return [_pair(name, images.get(name), labels.get(name), folder) for name in names]


_LAYOUTS: Final[tuple[Callable[[Path], list[ScanCase]], ...]] = (_kits, _decathlon)


def _file(folder: Path, stem: str) -> Path | None:
    return next((folder / (stem + suffix) for suffix in _SUFFIXES if (folder / (stem + suffix)).is_file()), None)


def _files(folder: Path) -> dict[str, Path]:
    """Image files of a folder by their name without ending; hidden ones are not looked at."""
    return {
        path.name.removesuffix(suffix): path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        for suffix in _SUFFIXES
        if path.name.endswith(suffix) and not path.name.startswith(".")
    }


def _pair(case: str, image: Path | None, label: Path | None, where: Path) -> ScanCase:
    if image is None or label is None:
        missing, present = ("label", image) if label is None else ("image", label)
        raise InputError(f"{where}: case '{case}' has no {missing} to {present}; add it or remove the case")
    return ScanCase(case, image, label)


def load_case(scan: ScanCase) -> LoadedCase:
    """Read, check and turn a case; HU are rounded and clamped to [-1024, 32767].

    Raises:
        InputError: a file is unreadable, image and label lie on different grids, the image is not finite, or
            the label holds other values than 0, 1 and 2.
    """
    image, label = read_volume(scan.image), read_volume(scan.label)
    difference = grid_difference(label.grid, image.grid)
    if difference:
        raise InputError(
            f"{scan.label}: label lies on another grid than its image {scan.image.name} ({difference}); "
            "re-export it on the image's grid, labels are never resized"
        )
    pixels = Volume(_hounsfield(image.array, scan.image), image.grid)
    classes = Volume(_classes(label.array, scan.label), image.grid)
    return LoadedCase(scan.case, canonical(pixels, is_label=False), canonical(classes, is_label=True), image.grid)


def load_image(path: str | Path) -> tuple[Volume, Grid]:
    """A scan without label: canonical int16 HU, and the grid that its file states. Raises InputError."""
    image = read_volume(path)
    return canonical(Volume(_hounsfield(image.array, Path(path)), image.grid), is_label=False), image.grid


def _hounsfield(values: NDArray[np.generic], path: Path) -> HuArray:
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds values that are not finite; export the scan again as CT numbers")
    rounded: HuArray = np.clip(np.rint(values), AIR_HU, _INT16_MAX).astype(np.int16)
    return rounded


def _classes(values: NDArray[np.generic], path: Path) -> LabelArray:
    for value in np.unique(values).tolist():
        if value not in LABEL_NAMES:
            raise InputError(
                f"{path}: label value {value:g} is none of 0 background, 1 kidney, 2 tumor; relabel the file"
            )
    return values.astype(np.uint8)
