"""How folders of labelled scans are laid out. A scan or label is a file of any format, or a DICOM folder.

KiTS               SRC/<case>/imaging.*, SRC/<case>/segmentation.* (or aggregated_MAJ_seg.*, as KiTS21 has it)
Decathlon, nnU-Net SRC/imagesTr/<case>.* or <case>_0000.*, SRC/labelsTr/<case>.*, names of labels in dataset.json
DICOM              SRC/<case>/ with the slices of a CT (nested or not) and one label file or DICOM-SEG
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from renalnet.data.cases.findings import Code, Finding
from renalnet.data.dicom.file import is_dicom
from renalnet.data.dicom.series import holds_dicom, list_images
from renalnet.data.images.label_values import map_of_segments
from renalnet.data.images.volume import image_stem
from renalnet.errors import ConfigError, InputError
from renalnet.runtime.storage import reading

_KITS_LABELS: Final = ("segmentation", "aggregated_MAJ_seg")
_IMAGES, _LABELS = "imagesTr", "labelsTr"
_DECATHLON_FOLDERS: Final = (_IMAGES, _LABELS, "imagesTs", "labelsTs")
_FIRST_CHANNEL: Final = "0000"
_MAX_NAMED: Final = 4
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


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    cases: tuple[ScanCase, ...] = ()
    """Sorted by name."""
    problems: tuple[Finding, ...] = ()
    """Errors of cases that lack their image or label, or have more than one."""
    passed_over: tuple[str, ...] = ()
    """Folders, and files among the images, that are none of a case; relative to the folder."""


_Entry: TypeAlias = ScanCase | Finding


def find_layout(src: str | Path, *, series: str | None = None, label_map: Mapping[int, int] | None = None) -> Found:
    """The labelled cases of a folder; `series` and `label_map` are what each is read with.

    Raises:
        InputError: the folder is missing or of no known layout or of several.
        ConfigError: `series` is given, but no scan is DICOM.
    """
    folder = Path(src)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder that holds the cases")
    with reading(folder):
        name, found = _only(folder, {name: layout(folder) for name, layout in _LAYOUTS.items()})
        named = _named_labels(folder, label_map or {}) if name == "Decathlon" else {}
    if series is not None and found.cases and not any(scan.image.is_dir() for scan in found.cases):
        raise ConfigError(f"series '{series}': {folder} holds no DICOM series to choose from; leave it out")
    pairs = tuple(sorted({**named, **(label_map or {})}.items()))
    cases = [replace(scan, series=series if scan.image.is_dir() else None, label_map=pairs) for scan in found.cases]
    return replace(found, cases=tuple(cases))


def find_scans(path: Path, *, series: str | None = None) -> list[Path]:
    """The scans without labels that a path stands for: itself, or those of a folder of several.

    A folder of several holds image files, DICOM folders, or folders with `imaging.*` as KiTS has them, two or more;
    files named like KiTS's labels are none. A folder of slices, nested or not, is one scan; so is any with `series`.

    Raises:
        InputError: the folder holds no scan.
    """
    if not path.is_dir() or series is not None:
        return [path]
    with reading(path):
        if any(is_dicom(file) for file in _visible(path) if file.is_file()):
            return [path]
        images = [file for file in _loose_images(path) if image_stem(file.name) not in _KITS_LABELS]
        found = [*images, *(scan for folder in _subfolders(path) if (scan := _scan_in(folder)))]
        if not found:
            raise InputError(f"{path}: holds no scan; name an image, a folder of DICOM slices, or a folder of scans")
    return [path] if len(found) == 1 and found[0].is_dir() else found


def _scan_in(folder: Path) -> Path | None:
    images = _entries(folder, ("imaging",))[0].get("imaging", [])
    if images:
        return images[0]
    return folder if holds_dicom(folder) else None


def _only(folder: Path, layouts: Mapping[str, Found]) -> tuple[str, Found]:
    """The layout that has cases; where none has, the first that has problems, for they tell more than their absence."""
    with_cases = [name for name, found in layouts.items() if found.cases]
    names = with_cases or [name for name, found in layouts.items() if found.problems][:1]
    if len(names) != 1:
        problem = f"is laid out in several ways ({', '.join(names)})" if names else "holds no cases"
        raise InputError(f"{folder}: {problem}; {_EXPECTED}")
    return names[0], layouts[names[0]]


def _kits(folder: Path) -> Found:
    return _in_subfolders(folder, _kits_case)


def _kits_case(folder: Path) -> _Entry | None:
    entries, _ = _entries(folder, ("imaging", *_KITS_LABELS))
    labels = next((entries[stem] for stem in _KITS_LABELS if stem in entries), [])
    is_ours = "imaging" in entries or (labels and not holds_dicom(folder))
    return _pair(folder.name, entries.get("imaging", []), labels) if is_ours else None


def _dicom(folder: Path) -> Found:
    return _in_subfolders(folder, _dicom_case)


def _dicom_case(folder: Path) -> _Entry | None:
    if folder.name in _DECATHLON_FOLDERS or "imaging" in _entries(folder, ("imaging",))[0] or not holds_dicom(folder):
        return None
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and image_stem(path.name)]
    return _pair(folder.name, [folder], files or list_images(folder).segmentations)


def _decathlon(folder: Path) -> Found:
    images, other_images = _entries(folder / _IMAGES)
    labels, other_labels = _entries(folder / _LABELS)
    images_of: defaultdict[str, list[Path]] = defaultdict(list)
    for name, paths in images.items():
        images_of[_case_of(name, images, labels)] += paths
    pairs = [_pair(name, images_of[name], labels.get(name, [])) for name in sorted({*images_of, *labels})]
    others = [path for path in _subfolders(folder) if path.name not in _DECATHLON_FOLDERS]
    return _found(folder, pairs, [*others, *_loose_images(folder), *other_images, *other_labels])


_LAYOUTS: Final[dict[str, Callable[[Path], Found]]] = {
    "KiTS": _kits,
    "Decathlon": _decathlon,
    "DICOM": _dicom,
}


def _case_of(name: str, images: Mapping[str, list[Path]], labels: Mapping[str, list[Path]]) -> str:
    """The case of an image: nnU-Net numbers channels where the Decathlon numbers cases, so labels tell which it is."""
    case, _, channel = name.rpartition("_")
    is_numbered = len(channel) == len(_FIRST_CHANNEL) and channel.isdigit()
    is_channel = is_numbered and name not in labels and case in labels and f"{case}_{_FIRST_CHANNEL}" in images
    return case if is_channel else name


def _in_subfolders(folder: Path, read: Callable[[Path], _Entry | None]) -> Found:
    """Each subfolder's case; what hinders the look into one is a problem of it alone."""
    entries, others = list[_Entry](), _loose_images(folder)
    for path in _subfolders(folder):
        try:
            with reading(path):
                entry = read(path)
        except InputError as error:
            entry = _problem(path.name, str(error))
        if entry:
            entries.append(entry)
        else:
            others.append(path)
    return _found(folder, entries, others)


def _found(folder: Path, entries: Iterable[_Entry], others: Iterable[Path]) -> Found:
    listed = list(entries)
    return Found(
        tuple(entry for entry in listed if isinstance(entry, ScanCase)),
        tuple(entry for entry in listed if isinstance(entry, Finding)),
        tuple(sorted(path.relative_to(folder).as_posix() for path in others)),
    )


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _loose_images(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_file() and image_stem(path.name)]


def _entries(folder: Path, stems: tuple[str, ...] = ()) -> tuple[dict[str, list[Path]], list[Path]]:
    """Images and DICOM folders or files of a folder, by name without ending, of `stems` only if given; and the rest."""
    found, others = defaultdict[str, list[Path]](list), list[Path]()
    for path in _visible(folder):
        stem = _entry_name(path) if not stems or path.name.partition(".")[0] in stems else None
        if stem is None:
            others.append(path)
        else:
            found[stem].append(path)
    return dict(found), others


def _entry_name(path: Path) -> str | None:
    if path.is_dir():
        return path.name if holds_dicom(path) else None
    if path.suffix.lower() == ".dcm" and is_dicom(path):
        return path.stem
    return image_stem(path.name)


def _pair(case: str, images: list[Path], labels: list[Path]) -> _Entry:
    for kind, paths in (("images", images), ("labels", labels)):
        if len(paths) > 1:
            listed = ", ".join(path.name for path in paths[:_MAX_NAMED])
            return _problem(case, f"{paths[0].parent}: {len(paths)} {kind} ({listed}); keep the one to use")
    if not labels:
        return _problem(case, f"{images[0]}: has no label; add it or remove the case", "no-label")
    if not images:
        return _problem(case, f"{labels[0]}: is of no image; add it or remove the case")
    return ScanCase(case, images[0], labels[0])


def _problem(case: str, message: str, code: Code = "layout") -> Finding:
    return Finding(case, "error", code, message)


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
