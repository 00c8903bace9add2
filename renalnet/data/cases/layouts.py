"""Layouts of folders of labelled scans. A scan or label map is an image file of any format, or a DICOM folder.

KiTS               SRC/<case>/imaging.*, SRC/<case>/segmentation.* (aggregated_MAJ_seg.* in KiTS21)
Decathlon, nnU-Net SRC/imagesTr/<case>.* or <case>_0000.*, SRC/labelsTr/<case>.*, names of labels in dataset.json
DICOM              SRC/<case>/ with the slices of a CT (in subfolders or not) and one label file or DICOM-SEG

A label file may be a segmentation of 3D Slicer (.seg.nrrd) in each of them. Links to folders are followed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from renalnet.config import KIDNEY_TUMOR, LabelSet
from renalnet.data.cases.findings import Code, Finding
from renalnet.data.cases.names import FIRST_CHANNEL
from renalnet.data.dicom.file import has_dicom_ending, is_dicom
from renalnet.data.dicom.folders import files_below
from renalnet.data.dicom.headers import contains_dicom, list_images
from renalnet.data.images.label_values import classes_of_segments
from renalnet.data.images.mask_files import KITS_LABELS
from renalnet.data.images.slicer_segmentation import has_segments
from renalnet.data.images.volume import DETACHED_HEADERS, image_stem
from renalnet.errors import ConfigError, InputError
from renalnet.runtime import storage
from renalnet.runtime.storage import reading

_IMAGES: Final = "imagesTr"
_LABELS: Final = "labelsTr"
_DECATHLON_FOLDERS: Final = (_IMAGES, _LABELS, "imagesTs", "labelsTs")
_MAX_BYTES: Final = 2**26
"""Size of the largest `dataset.json` that is read; it may list every scan."""
_DATA_ENDINGS: Final = (".img", ".raw", ".zraw")
"""Endings of the files that hold the voxels of an image with a detached header."""
_MAX_NAMED: Final = 4
_EXPECTED: Final = (
    "expected one of: <case>/imaging.* with <case>/segmentation.* (KiTS); imagesTr/ with labelsTr/ (Decathlon, "
    "nnU-Net); <case>/ with a DICOM series and a label"
)


@dataclass(frozen=True)
class ScanCase:
    """Files of a case, and how to read them."""

    case: str
    """Name of the case."""
    image: Path
    """File, or folder with a DICOM series."""
    label: Path
    series: str | None = None
    """Number or UID of the series, if the folder contains several."""
    label_map: tuple[tuple[int, int], ...] = ()
    """Pairs of a label in the file and its class: 0 background, or a value of `labels`."""
    # Not in the text, by which a store recognises the files of earlier versions.
    labels: LabelSet = field(default=KIDNEY_TUMOR, repr=False)
    """The label set."""
    phase: str | None = field(default=None, repr=False)
    """Number or time of an acquisition, if the series contains several phases."""


@dataclass(frozen=True)
class FoundCases:
    """The cases of a folder, and what is wrong with it."""

    cases: tuple[ScanCase, ...] = ()
    """Sorted by name."""
    problems: tuple[Finding, ...] = ()
    """Errors of cases that have no image or label map, or more than one."""
    passed_over: tuple[str, ...] = ()
    """Subfolders and image files that belong to no case, as paths relative to the folder."""


_Entry: TypeAlias = ScanCase | Finding


def find_cases(
    src: str | Path,
    labels: LabelSet,
    *,
    series: str | None = None,
    phase: str | None = None,
    label_map: Mapping[int, int] | None = None,
) -> FoundCases:
    """Return the labelled cases of a folder.

    Args:
        src: the folder, in one of the layouts above.
        labels: the label set.
        series: number or UID of the DICOM series to read, for folders that contain several.
        phase: number or time of the acquisition to read, for series that contain several phases.
        label_map: classes of labels in the files. It takes precedence over the names in dataset.json, which do not
            apply to files that name their segments: segmentations of DICOM and of 3D Slicer.

    Raises:
        InputError: the folder is missing, or has no known layout or several.
        ConfigError: `series` or `phase` is given, but no scan is DICOM.
    """
    folder = Path(src)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder that holds the cases")
    with reading(folder):
        # All layouts are tried, because a folder that matches two of them is probably a mistake.
        name, found = _single_layout(folder, {name: layout(folder) for name, layout in _LAYOUTS.items()})
        named = _named_labels(folder, labels, label_map or {}) if name == "Decathlon" else {}
    for option, value in (("series", series), ("phase", phase)):
        if value is not None and found.cases and not any(scan.image.is_dir() for scan in found.cases):
            raise ConfigError(f"{option} '{value}': {folder} holds no DICOM series; leave the option out")
    own = dict(label_map or {})
    cases = [
        replace(
            scan,
            label_map=tuple(sorted((own if _names_labels(scan.label) else {**named, **own}).items())),
            labels=labels,
        )
        for scan in found.cases
    ]
    chosen = [replace(scan, series=series, phase=phase) if scan.image.is_dir() else scan for scan in cases]
    return replace(found, cases=tuple(chosen))


def _names_labels(label: Path) -> bool:
    """Whether a label file names its segments itself; they are then numbered otherwise than in dataset.json."""
    return has_segments(label) or (label.is_file() and image_stem(label.name) is None)


def find_scans(path: Path, *, series: str | None = None) -> list[Path]:
    """Return the scans without label maps at a path: the path itself, or the scans of a folder.

    A folder of scans contains image files, DICOM folders, or folders with `imaging.*` as in KiTS, two or more in all.
    Files with the name of a KiTS label map and segmentations of 3D Slicer are not scans. A folder of DICOM slices, in
    subfolders or not, is a single scan, and so is any folder if `series` is given. What looks like a scan but cannot be
    read, such as a `.dcm` file without DICOM content, is listed, so that reading it reports that.

    Raises:
        InputError: the folder contains no scan.
    """
    if not path.is_dir() or series is not None:
        return [path]
    with reading(path):
        files = [file for file in _visible(path) if file.is_file()]
        if any(map(_is_readable_dicom, files)):
            return [path]
        images = [file for file in files if _is_image(file)]
        found = [*images, *(scan for folder in _subfolders(path) if (scan := _scan_in(folder)))]
        if not found:
            raise InputError(f"{path}: holds no scan; name an image, a folder of DICOM slices, or a folder of scans")
    # A single DICOM subfolder is the series of one scan, which may have further files around it.
    return [path] if len(found) == 1 and found[0].is_dir() else found


def _is_readable_dicom(file: Path) -> bool:
    try:
        return is_dicom(file)
    except InputError:
        return False


def _is_image(file: Path) -> bool:
    """Whether a file is an image by its name, and no label map."""
    if has_dicom_ending(file):
        return True
    stem = image_stem(file.name)
    return stem is not None and stem not in KITS_LABELS and not has_segments(file)


def _scan_in(folder: Path) -> Path | None:
    """Return the scan in a subfolder: an image, or the folder itself for a series and where it cannot be read."""
    try:
        with reading(folder):
            images = _entries(folder, ("imaging",))[0].get("imaging", [])
            if images:
                return images[0]
            return folder if contains_dicom(folder) else None
    except InputError:
        return folder


def _single_layout(folder: Path, layouts: Mapping[str, FoundCases]) -> tuple[str, FoundCases]:
    """Return the only layout that has cases, or the first with problems, which say more than "no cases"."""
    with_cases = [name for name, found in layouts.items() if found.cases]
    names = with_cases or [name for name, found in layouts.items() if found.problems][:1]
    if len(names) != 1:
        problem = f"matches several layouts ({', '.join(names)})" if names else "holds no cases"
        raise InputError(f"{folder}: {problem}; {_EXPECTED}")
    return names[0], layouts[names[0]]


def _kits(folder: Path) -> FoundCases:
    return _in_subfolders(folder, _kits_case)


def _kits_case(folder: Path) -> _Entry | None:
    entries, _ = _entries(folder, ("imaging", *KITS_LABELS))
    labels = next((entries[stem] for stem in KITS_LABELS if stem in entries), [])
    # A segmentation beside a DICOM series belongs to the DICOM layout, unless there is an `imaging` file or folder.
    is_kits = "imaging" in entries or (labels and not contains_dicom(folder))
    return _pair(folder.name, entries.get("imaging", []), labels) if is_kits else None


def _dicom(folder: Path) -> FoundCases:
    return _in_subfolders(folder, _dicom_case)


def _dicom_case(folder: Path) -> _Entry | None:
    # The images of a Decathlon layout may be DICOM folders. `imagesTr` itself is then no case.
    if (
        folder.name in _DECATHLON_FOLDERS
        or "imaging" in _entries(folder, ("imaging",))[0]
        or not contains_dicom(folder)
    ):
        return None
    files = [path for path in files_below(folder) if image_stem(path.name)]
    # Only without a label file, because this reads the header of every slice.
    return _pair(folder.name, [folder], files or list_images(folder).segmentations)


def _decathlon(folder: Path) -> FoundCases:
    images, other_images = _entries(folder / _IMAGES)
    labels, other_labels = _entries(folder / _LABELS)
    images_of: defaultdict[str, list[Path]] = defaultdict(list)
    for name, paths in images.items():
        images_of[_case_of(name, images, labels)] += paths
    # Label maps without an image are included, so that they are reported.
    pairs = [_pair(name, images_of[name], labels.get(name, [])) for name in sorted({*images_of, *labels})]
    others = [path for path in _subfolders(folder) if path.name not in _DECATHLON_FOLDERS]
    return _found(folder, pairs, [*others, *_loose_images(folder), *other_images, *other_labels])


_LAYOUTS: Final[dict[str, Callable[[Path], FoundCases]]] = {
    "KiTS": _kits,
    "Decathlon": _decathlon,
    "DICOM": _dicom,
}


def _case_of(name: str, images: Mapping[str, list[Path]], labels: Mapping[str, list[Path]]) -> str:
    """Return the case of an image.

    `k_0001` is case `k_0001` of the Decathlon, or the second channel of case `k` of nnU-Net. The names of the label
    maps decide.
    """
    case, _, channel = name.rpartition("_")
    is_numbered = len(channel) == len(FIRST_CHANNEL) and channel.isdigit()
    is_channel = is_numbered and name not in labels and case in labels and f"{case}_{FIRST_CHANNEL}" in images
    return case if is_channel else name


def _in_subfolders(folder: Path, read: Callable[[Path], _Entry | None]) -> FoundCases:
    """Return the case of each subfolder. A subfolder that cannot be read is a problem of its case alone."""
    entries = list[_Entry]()
    others = _loose_images(folder)
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


def _found(folder: Path, entries: Iterable[_Entry], others: Iterable[Path]) -> FoundCases:
    listed = list(entries)
    return FoundCases(
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
    """Return the images and DICOM folders of a folder by their names without ending, and all other entries.

    If `stems` is given, only entries with one of these names count.
    """
    found = defaultdict[str, list[Path]](list)
    others = list[Path]()
    for path in _visible(folder):
        # The names are compared first, because `_entry_name` may have to open files.
        stem = _entry_name(path) if not stems or path.name.partition(".")[0] in stems else None
        if stem is None:
            others += [] if _belongs_to_header(path) else [path]
        else:
            found[stem].append(path)
    return dict(found), others


def _belongs_to_header(path: Path) -> bool:
    """Whether a file has the voxels of an image whose header is another file, such as `a.img` beside `a.hdr`."""
    stem, dot, ending = path.name.partition(".")
    is_data = dot + ending.lower().removesuffix(".gz") in _DATA_ENDINGS
    return is_data and any(path.with_name(stem + header).is_file() for header in DETACHED_HEADERS)


def _entry_name(path: Path) -> str | None:
    if path.is_dir():
        return path.name if contains_dicom(path) else None
    if has_dicom_ending(path) and is_dicom(path):
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
        return _problem(case, f"{labels[0]}: label without image; add the image or remove the case")
    return ScanCase(case, images[0], labels[0])


def _problem(case: str, message: str, code: Code = "layout") -> Finding:
    return Finding(case, "error", code, message)


def _named_labels(folder: Path, labels: LabelSet, label_map: Mapping[int, int]) -> dict[int, int]:
    """Return the classes that `dataset.json` gives its labels, or an empty mapping if there is no such file.

    Raises:
        InputError: the file is damaged, or a label is not in `label_map` and its name is not that of a label.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return {}
    try:
        stated = storage.read_json(path, max_bytes=_MAX_BYTES).get("labels", {})
        # 0 is the background or a region, neither of which needs a class.
        names = {number: name for number, name in map(_numbered, stated.items()) if number}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: not the description of a data set ({type(error).__name__}); correct or remove it"
        ) from error
    return classes_of_segments(names, path, labels, label_map)


def _numbered(entry: tuple[str, Any]) -> tuple[int, str]:
    """Return the number and the name of a label: nnU-Net maps names to numbers, the Decathlon numbers to names."""
    key, value = entry
    if isinstance(value, list):
        return 0, key  # a region of nnU-Net, a union of labels that have their own entries
    return (int(key), str(value)) if key.isdigit() else (int(value), key)
