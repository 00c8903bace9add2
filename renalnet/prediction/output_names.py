"""Names of the files of a prediction. No two scans get the same one, in one call or in several calls.

A name belongs to the scan whose checksum its JSON file states.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from renalnet.data.cases.names import MAX_BYTES
from renalnet.data.images.volume import image_stem
from renalnet.errors import InputError
from renalnet.prediction.provenance import stated_scan
from renalnet.runtime import storage

_HASH_DIGITS: Final = 8
_MASK_ENDINGS: Final = (".nii.gz", ".dcm", ".rtstruct.dcm")
"""Endings of the masks that a JSON file of the same name describes."""


def scan_names(scans: Sequence[Path]) -> list[str]:
    """Return a name for the mask of each of different scans.

    The name is that of the file or DICOM folder. Scans of the same name get the name of the folder around them, and
    where that is the same, too, the names of as many folders as tell them apart: `patient-1_study` and
    `patient-2_study`. Files of one folder that differ in their ending alone keep the ending in the name. A name of more
    than `MAX_BYTES` bytes is cut, and a hash of the whole name follows.

    Raises:
        InputError: two scans still have the same name.
    """
    stems = _stems(scans)
    num_folders = Counter(dict.fromkeys(stems, 0))
    shared = set(stems)
    deepest = max((len(scan.absolute().parts) for scan in scans), default=0)
    for _ in range(deepest + 1):
        names = [_name(scan, stem, num_folders[stem]) for scan, stem in zip(scans, stems, strict=True)]
        uses = Counter(names)
        shared = {stem for name, stem in zip(names, stems, strict=True) if uses[name] > 1}
        if not shared:
            return [_short(name) for name in names]
        num_folders.update(shared)
    raise InputError(f"two scans would write the mask '{min(shared)}'; predict them into different folders")


def _short(name: str) -> str:
    """Return a name to which all endings of our files can be added."""
    content = name.encode("utf-8", "surrogateescape")
    if len(content) <= MAX_BYTES:
        return name
    end = f"-{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}"
    return content[: MAX_BYTES - len(end)].decode("utf-8", "ignore") + end


def absolute(scan: Path) -> Path:
    """Return an absolute path without `..`, in which symbolic links keep their names."""
    return Path(os.path.normpath(scan.absolute()))


def _stems(scans: Sequence[Path]) -> list[str]:
    """Return the name of each file without its ending, or with it where another file of the folder has that name."""
    uses = Counter(absolute(scan).parent / _stem(scan) for scan in scans)
    return [
        scan.name.replace(".", "_") if uses[absolute(scan).parent / _stem(scan)] > 1 else _stem(scan) for scan in scans
    ]


def _name(scan: Path, stem: str, num_folders: int) -> str:
    """Return the name of a scan by the innermost folders around it; its stem for none."""
    # `Path("ct.nii.gz").parent` has no name unless the path is absolute.
    return "_".join(absolute(scan).parent.parts[1:][-num_folders:]) if num_folders else stem


def _stem(scan: Path) -> str:
    if scan.is_dir():
        return absolute(scan).name
    return image_stem(scan.name) or scan.name.removesuffix(".dcm")


def other_names(scans: Sequence[Path], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return further names for the mask of each scan, for the case that another call has used its name.

    They are the names of more and more folders around the scan, without those that two scans share.

    Args:
        scans: different scans.
        names: result of `scan_names`.
    """
    stems = _stems(scans)
    longer = [
        tuple(_short(_name(scan, stem, count)) for count in range(1, len(absolute(scan).parts)))
        for scan, stem in zip(scans, stems, strict=True)
    ]
    uses = Counter(names) + Counter(name for each in longer for name in set(each))
    return [tuple(dict.fromkeys(name for name in each if uses[name] == 1)) for each in longer]


def free_stem(stems: Sequence[str], scan_sha256: str) -> str:
    """Return the first of several stems whose files may be written for a scan: it has none, or those of the same scan.

    The last resort is the first stem with a part of the checksum.

    Args:
        stems: paths or URIs without endings, at least one.
        scan_sha256: checksum of the scan.

    Raises:
        InputError: all of them hold files of other scans.
    """
    named = (*stems, f"{stems[0]}-{scan_sha256[:_HASH_DIGITS]}")
    free = next((stem for stem in named if _is_free(stem, scan_sha256)), None)
    if free is None:
        raise InputError(f"{stems[0]}.nii.gz: holds the mask of another scan; name another folder with --out")
    return free


def _is_free(stem: str, scan_sha256: str) -> bool:
    about = f"{stem}.json"
    if storage.exists(about):
        return stated_scan(about) == scan_sha256
    return not any(storage.exists(f"{stem}{ending}") for ending in _MASK_ENDINGS)
