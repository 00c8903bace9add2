"""What `ray job submit` uploads: no files of patients, and no more than the head accepts."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from cluster.ray_private import UPLOAD_LIMIT_BYTES, visit_packed
from renalnet.data.dicom.file import has_dicom_ending, is_dicom
from renalnet.data.images.volume import IMAGE_ENDINGS
from renalnet.data.store.reader import SHARDS
from renalnet.errors import ClusterError

MIB: Final = 1 << 20
NUM_NAMED: Final = 5
"""Largest files that an error message names."""
_OTHER_ENDINGS: Final = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw", ".stl")
"""Endings of files of voxels whose header is another file, and of the surfaces of masks."""
_ENTRY_BYTES: Final = 30 + 46
"""Bytes of an entry of a zip file, besides the file's content and twice its name: local header and directory entry."""
_END_BYTES: Final = 22
"""Bytes of the record at the end of a zip file."""


@dataclass(frozen=True)
class Upload:
    """The upload of a folder."""

    num_bytes: int
    """Bytes of the zip file."""
    left_out: tuple[str, ...]
    """Relative paths of the files that may show patients, which are not uploaded."""
    excludes: tuple[str, ...]
    """Patterns of these files, as in `.gitignore`, for the runtime environment of a job."""

    @property
    def line(self) -> str:
        """A line that says what is left out; empty where nothing is."""
        if not self.left_out:
            return ""
        named = ", ".join(self.left_out[:NUM_NAMED]) + (", …" if len(self.left_out) > NUM_NAMED else "")
        return (
            f"{len(self.left_out)} files that may show patients are not uploaded: {named}; put scans, masks and stores "
            "into a folder that all nodes see"
        )


def packed_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file that Ray packs for an upload of `folder`, by relative path, in Ray's order."""
    sizes: dict[str, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(folder))] = path.stat().st_size

    visit_packed(folder, add)
    return sizes


def upload_bytes(sizes: dict[str, int]) -> int:
    """Return the bytes of the zip file, which Ray writes without compression."""
    return _END_BYTES + sum(_ENTRY_BYTES + 2 * len(name.encode()) + size for name, size in sizes.items())


def check_upload(folder: Path, limit_bytes: int = UPLOAD_LIMIT_BYTES) -> Upload:
    """Return what is uploaded: all that Ray packs but scans, masks, and shards of stores.

    On the head, every user can read an upload.

    Raises:
        ClusterError: `folder` does not exist, or the upload is larger than the head accepts. The message then names
            the largest files.
    """
    if not folder.is_dir():
        raise ClusterError(f"--working-dir {folder} is not a folder; name a clone of the project")
    folder = folder.absolute()
    packed = packed_sizes(folder)
    left_out = tuple(name for name in packed if _may_show_patient(folder, name))
    sizes = {name: size for name, size in packed.items() if name not in set(left_out)}
    total = upload_bytes(sizes)
    if total > limit_bytes:
        raise ClusterError(
            f"{folder} would upload {total / MIB:.1f} MiB, but a Ray head takes at most {limit_bytes / MIB:.0f} MiB; "
            f"move files away or name them in .rayignore: {_largest(list(sizes.items()))}"
        )
    return Upload(total, left_out, tuple(dict.fromkeys(_patterns(packed, left_out))))


def _may_show_patient(folder: Path, name: str) -> bool:
    path = folder / name
    if path.name.lower().endswith((*IMAGE_ENDINGS, *_OTHER_ENDINGS)) or has_dicom_ending(path):
        return True
    if path.suffix == ".parquet" and path.parent.name == SHARDS:
        return True
    # Slices of an archive have any ending, or none.
    return is_dicom(path)


def _patterns(packed: Collection[str], left_out: Collection[str]) -> Iterator[str]:
    """Yield a pattern for each file, or for the outermost folder around it that holds no other packed files."""
    # Ray compares each file with each pattern, and a series has hundreds of files.
    kept = Counter(folder for name in set(packed) - set(left_out) for folder in PurePosixPath(name).parents)
    for name in left_out:
        path = PurePosixPath(name)
        around = [folder for folder in reversed(path.parents) if folder.name and not kept[folder]]
        yield f"/{_escaped(str(around[0]))}/" if around else f"/{_escaped(name)}"


def _escaped(name: str) -> str:
    """Return a path in which no character has a meaning for a pattern of `.gitignore`."""
    escaped = "".join(f"\\{each}" if each in "\\*?[]!#" else each for each in name)
    return escaped[:-1] + "\\ " if escaped.endswith(" ") else escaped


def _largest(files: Sequence[tuple[str, int]]) -> str:
    ordered = sorted(files, key=lambda file: -file[1])
    num_others = len(ordered) - NUM_NAMED
    named = ", ".join(f"{name} ({size / MIB:.1f} MiB)" for name, size in ordered[:NUM_NAMED])
    return f"{named}, and {num_others} smaller files" if num_others > 0 else named
