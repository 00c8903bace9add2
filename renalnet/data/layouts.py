"""How folders of labelled scans are laid out. A scan or label is a file of any format, or a DICOM folder.

KiTS               SRC/<case>/imaging.*, SRC/<case>/segmentation.* (or aggregated_MAJ_seg.*, as KiTS21 has it)
Decathlon, nnU-Net SRC/imagesTr/<case>.* or <case>_0000.*, SRC/labelsTr/<case>.*, names of labels in dataset.json
DICOM              SRC/<case>/ with the slices of a CT (nested or not) and one label file or DICOM-SEG
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from renalnet.data.dicom.file import is_dicom
from renalnet.data.dicom.series import holds_dicom, list_images
from renalnet.data.labels import map_of_segments
from renalnet.data.volume import image_stem
from renalnet.errors import ConfigError, InputError

_KITS_LABELS: Final = ("segmentation", "aggregated_MAJ_seg")
_FIRST_CHANNEL, _SECOND_CHANNEL = "_0000", "_0001"
_EXPECTED: Final = (
    "expected one of: <case>/imaging.* with <case>/segmentation.* (KiTS); imagesTr/ with labelsTr/ (Decathlon, "
    "nnU-Net); <case>/ with a DICOM series and a label"
)


@dataclass(frozen=True)
class ScanCase:
    """Where a patient's scan and label lie, and how to read them."""

    case: str
    image: Path
    """A file, or a folder with a DICOM series."""
    label: Path
    series: str | None = None
    """Number or UID of the series, where the folder holds several."""
    label_map: tuple[tuple[int, int], ...] = ()
    """Pairs of the label in the file and what it means: 0 background, 1 kidney, 2 tumor."""


def find_cases(
    src: str | Path, *, series: str | None = None, label_map: Mapping[int, int] | None = None
) -> list[ScanCase]:
    """The labelled cases of a folder, sorted by name; `series` and `label_map` are what each is read with.

    Raises:
        InputError: the folder is missing or of no known layout or of several, or an image or label lacks its
            partner or comes twice.
        ConfigError: `series` is given, but no scan is DICOM.
    """
    folder = Path(src)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder that holds the cases")
    found = {name: cases for name, layout in _LAYOUTS.items() if (cases := list(layout(folder)))}
    if len(found) != 1:
        problem = f"is laid out in several ways ({', '.join(found)})" if found else "holds no cases"
        raise InputError(f"{folder}: {problem}; {_EXPECTED}")
    (cases,) = found.values()
    if series is not None and not any(scan.image.is_dir() for scan in cases):
        raise ConfigError(f"series '{series}': {folder} holds no DICOM series to choose from; leave it out")
    named = _named_labels(folder, label_map or {}) if "Decathlon" in found else {}
    pairs = tuple(sorted({**named, **(label_map or {})}.items()))
    return [replace(scan, series=series if scan.image.is_dir() else None, label_map=pairs) for scan in cases]


def _kits(folder: Path) -> Iterator[ScanCase]:
    for case in _subfolders(folder):
        entries = _entries(case, stems=("imaging", *_KITS_LABELS))
        label = next((entries[stem] for stem in _KITS_LABELS if stem in entries), None)
        if entries:
            yield _pair(case.name, entries.get("imaging"), label, case)


def _decathlon(folder: Path) -> Iterator[ScanCase]:
    images, labels = _entries(folder / "imagesTr"), _entries(folder / "labelsTr")
    second = next((name for name in images if name.endswith(_SECOND_CHANNEL)), None)
    if second and second.removesuffix(_SECOND_CHANNEL) + _FIRST_CHANNEL in images:
        raise InputError(f"{images[second]}: a second channel; a scan has one, so keep the CT only")
    images = {name.removesuffix(_FIRST_CHANNEL): path for name, path in images.items()}
    for name in sorted(images.keys() | labels.keys()):
        yield _pair(name, images.get(name), labels.get(name), folder)


def _dicom(folder: Path) -> Iterator[ScanCase]:
    for case in _subfolders(folder):
        if case.name in ("imagesTr", "labelsTr", "imagesTs") or _entries(case, stems=("imaging",)):
            continue
        if holds_dicom(case):
            yield _pair(case.name, case, _dicom_label(case), case)


_LAYOUTS: Final[dict[str, Callable[[Path], Iterator[ScanCase]]]] = {
    "KiTS": _kits,
    "Decathlon": _decathlon,
    "DICOM": _dicom,
}


def _dicom_label(case: Path) -> Path | None:
    """The one label of a case's folder: an image file, else a DICOM-SEG."""
    labels = [path for path in sorted(case.rglob("*")) if path.is_file() and image_stem(path.name)]
    labels = labels or list_images(case).segmentations
    if len(labels) > 1:
        listed = ", ".join(path.name for path in labels[:4])
        raise InputError(f"{case}: holds {len(labels)} labels ({listed}); keep the one to use")
    return labels[0] if labels else None


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _entries(folder: Path, stems: tuple[str, ...] | None = None) -> dict[str, Path]:
    """Image files and DICOM folders or files of a folder, by name without ending; of `stems` only, where given."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        stem = _entry_name(path)
        if stem is None or (stems and stem not in stems) or (path.is_dir() and not holds_dicom(path)):
            continue
        if stem in found:
            raise InputError(f"{folder}: '{stem}' comes twice ({found[stem].name}, {path.name}); keep one of them")
        found[stem] = path
    return found


def _entry_name(path: Path) -> str | None:
    if path.name.startswith("."):
        return None
    if path.is_dir():
        return path.name
    if path.suffix.lower() == ".dcm" and is_dicom(path):
        return path.stem
    return image_stem(path.name)


def _pair(case: str, image: Path | None, label: Path | None, where: Path) -> ScanCase:
    if image is None or label is None:
        missing, present = ("label", image) if label is None else ("image", label)
        raise InputError(f"{where}: case '{case}' has no {missing} to {present}; add it or remove the case")
    return ScanCase(case, image, label)


def _named_labels(folder: Path, label_map: Mapping[int, int]) -> dict[int, int]:
    """What `dataset.json` says of the labels; nothing where there is none, or it names regions.

    Raises:
        InputError: the file is damaged, or a name in it is neither kidney nor tumor and not mapped.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return {}
    try:
        labels = json.loads(path.read_text(encoding="utf-8")).get("labels", {})
        names = {number: name for number, name in map(_numbered, labels.items()) if number}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: describes no data set ({type(error).__name__}); mend or remove it") from error
    return map_of_segments(names, path, label_map)


def _numbered(entry: tuple[str, Any]) -> tuple[int, str]:
    """A label's number and name: nnU-Net maps names to numbers, the Decathlon numbers to names."""
    key, value = entry
    if isinstance(value, list):
        return 0, key  # a region: its parts stand elsewhere
    return (int(key), str(value)) if key.isdigit() else (int(value), key)
