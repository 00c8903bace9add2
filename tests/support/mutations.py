"""Copies of files with random damage, and the allowed outcomes of reading them."""

import copy
import json
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from renalnet.config import KIDNEY_TUMOR, PrepareConfig, TrainConfig, parse, read_file
from renalnet.data.cases.loading import ScanCase, load_case, load_scan
from renalnet.data.cases.splits import read_splits_file
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.images.volume import Grid, Volume, canonical
from renalnet.data.store.reader import open_store
from renalnet.errors import RenalnetError, StoreError

HEADER_BYTES = 400
NASTY_NUMBERS = [
    struct.pack("<i", 0),
    struct.pack("<i", -1),
    struct.pack("<i", 2**31 - 1),
    struct.pack("<h", -32768),
    struct.pack("<f", float("nan")),
    struct.pack("<f", float("inf")),
    struct.pack("<f", -1.5),
    struct.pack("<f", 1e30),
    b"\xff" * 8,
]
NASTY_WORDS = [b"0", b"-1", b"nan", b"inf", b"1e999", b"9" * 15, b"", b"x", b"(0,0,0)", b"[", b"2 2 2 2", b"\xff"]

REMOVED: Final = "(removed)"
ODD_VALUES: Final = (None, "", "../x", "9" * 300, -1, 10**18, 1e308, float("nan"), True, [], {}, [[]])
"""Values of another type, missing, huge or negative."""
Mutation = tuple[str, bytes]
"""What was changed, and the content of the file."""


@dataclass(frozen=True)
class Damaged:
    """A damaged file or folder, and the kind of reader for it."""

    kind: str
    path: Path
    grid: Grid | None = None
    """Grid of the sound file, where damage must not change it in silence."""


def truncate(content: bytes, rng: Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def flip_bits(content: bytes, rng: Generator) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 5)):
        damaged[place] ^= 1 << rng.integers(0, 8)
    return bytes(damaged)


def overwrite_header(content: bytes, rng: Generator) -> bytes:
    number = NASTY_NUMBERS[rng.integers(len(NASTY_NUMBERS))]
    place = int(rng.integers(0, min(HEADER_BYTES, len(content)))) // 2 * 2
    return content[:place] + number + content[place + len(number) :]


def replace_word(content: bytes, rng: Generator) -> bytes:
    words = list(re.finditer(rb"[^\s:=]+", content[:HEADER_BYTES]))
    word = words[rng.integers(len(words))]
    return content[: word.start()] + NASTY_WORDS[rng.integers(len(NASTY_WORDS))] + content[word.end() :]


def zero_block(content: bytes, rng: Generator) -> bytes:
    start = int(rng.integers(0, len(content)))
    size = int(rng.integers(1, 200))
    return content[:start] + bytes(len(content[start : start + size])) + content[start + size :]


def swap_blocks(content: bytes, rng: Generator) -> bytes:
    first, second, third = sorted(rng.integers(0, len(content), 3).tolist())
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def append_garbage(content: bytes, rng: Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 300)))


MUTATIONS: list[Callable[[bytes, Generator], bytes]] = [
    truncate,
    flip_bits,
    overwrite_header,
    replace_word,
    zero_block,
    swap_blocks,
    append_garbage,
]


def mutate(path: Path, seed: int) -> bool:
    """Damage a file in place; return whether any of its bytes changed."""
    rng = np.random.default_rng(seed)
    content = path.read_bytes()
    damaged = MUTATIONS[seed % len(MUTATIONS)](content, rng)
    path.write_bytes(damaged)
    return damaged != content


def damaged_copy(good: Path, folder: Path, seed: int) -> bool:
    """Copy a file or folder and damage one of its files; return whether any bytes changed."""
    if good.is_file():
        shutil.copy(good, folder / good.name)
        found = [*good.parent.glob(f"{good.stem}.*raw*"), *good.parent.glob(f"{good.stem}.img")]
        partners = [folder / partner.name for partner in found]
        for partner in partners:
            shutil.copy(good.parent / partner.name, partner)
        return mutate([folder / good.name, *partners][seed // 7 % (1 + len(partners))], seed)
    shutil.copytree(good, folder / good.name)
    files = sorted(path for path in (folder / good.name).rglob("*") if path.is_file())
    return mutate(files[seed % len(files)], seed)


def json_mutations(
    content: bytes, change_json: Callable[[Any], Any] = lambda values: values, every: int = 1
) -> Iterator[Mutation]:
    """Yield the damaged forms of a JSON file: as bytes, then with each field changed.

    Args:
        content: of the sound file.
        change_json: makes the changed values consistent again, such as their checksum, so that the checks behind it
            are reached.
        every: only each so many of the changed values, where all take too long.
    """
    yield from text_mutations(content)
    sound = json.loads(content)
    changes = [(path, value) for path in _paths_of(sound) for value in (*ODD_VALUES, REMOVED)]
    for path, value in changes[::every]:
        changed = json.dumps(_with(sound, path, value))
        if changed != json.dumps(sound):
            yield f"{'.'.join(map(str, path))} = {value!r:.40}", json.dumps(change_json(json.loads(changed))).encode()


def text_mutations(content: bytes) -> Iterator[Mutation]:
    """Yield the damaged forms of a text file that do not depend on its format."""
    yield "empty", b""
    yield "deep", b"[" * 200_000
    yield "list", b"[]"
    for share in range(1, 10):
        yield f"cut at {share}0 %", content[: len(content) * share // 10]
    rng = np.random.default_rng(len(content))
    for place in rng.integers(0, len(content), 20):
        yield (
            f"byte {place}",
            content[:place] + bytes([content[place] ^ 1 << rng.integers(0, 8)]) + content[place + 1 :],
        )


def _paths_of(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of each value inside of lists and mappings."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (key,)
        yield from ((key, *path) for path in _paths_of(part))


def _with(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """Return a copy of nested values in which one is replaced or removed."""
    copied = copy.deepcopy(value)
    place = copied
    for key in path[:-1]:
        place = place[key]
    if new is REMOVED:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return copied


def outcome(damaged: Damaged) -> str:
    """Read a damaged file; return `refused: …`, `read`, or `fault: …` for anything else."""
    try:
        return _READERS[damaged.kind](damaged.path) or _moved(damaged) or "read"
    except StoreError as error:
        return _refusal(error)
    except RenalnetError as error:
        return _refusal(error) if damaged.kind != "store" else f"fault: not a StoreError: {error}"
    except Exception as error:  # noqa: BLE001 - whatever else is raised is what the test looks for
        return f"fault: {type(error).__name__}: {error}"


def _refusal(error: RenalnetError) -> str:
    message = str(error)
    if "\n" in message or "ecret" in message or not message:
        return f"fault: message is empty, has several lines or names a patient: {message}"
    return f"refused: {message}"


def _read_image(path: Path) -> str | None:
    volume, source = load_scan(path)
    if not (np.isfinite(source.spacing_xyz_mm).all() and min(source.spacing_xyz_mm) > 0):
        return f"fault: grid {source}"
    return _fault_of(volume, np.int16)


def _moved(damaged: Damaged) -> str | None:
    """Return a fault where a voxel is more than half a voxel from its place, or voxels are missing, without a note."""
    if damaged.grid is None:
        return None
    volume, grid = load_scan(damaged.path)
    same = grid.size_xyz == damaged.grid.size_xyz and distance_mm(grid, damaged.grid) <= 0.51 * min(grid.spacing_xyz_mm)
    return None if same or volume.notes else f"fault: {grid} in silence"


def distance_mm(one: Grid, other: Grid) -> float:
    """Return how far the corners of two grids of one size are apart at most."""
    corners = np.stack(np.meshgrid(*[(0, size - 1) for size in one.size_xyz]), axis=-1).reshape(-1, 3)
    first, second = (
        corners @ (np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm).T + grid.origin_xyz_mm
        for grid in (one, other)
    )
    return float(np.linalg.norm(first - second, axis=1).max())


def _read_label(path: Path) -> str | None:
    return _fault_of(canonical(read_source_mask(path, KIDNEY_TUMOR), is_label=True), np.uint8)


def _read_case(path: Path) -> str | None:
    loaded = load_case(ScanCase("case", path / "ct", path / "label.dcm"))
    return _fault_of(loaded.image, np.int16) or _fault_of(loaded.label, np.uint8)


def _fault_of(volume: Volume, dtype: type[np.generic]) -> str | None:
    grid = volume.grid
    numbers = np.array([*grid.spacing_xyz_mm, *grid.origin_xyz_mm, *grid.direction])
    good = volume.array.dtype == dtype and volume.array.shape == grid.shape and grid.is_axis_aligned
    return None if good and np.isfinite(numbers).all() and min(grid.spacing_xyz_mm) > 0 else f"fault: {grid}"


def _read_prepare_config(path: Path) -> None:
    parse(PrepareConfig, read_file(path), str(path))


def _read_train_config(path: Path) -> None:
    parse(TrainConfig, read_file(path), str(path))


def _read_splits(path: Path) -> None:
    read_splits_file(path)


def _read_store(path: Path) -> None:
    store = open_store(path)
    store.verify()
    for case in store.cases():
        store.read(case)


_READERS: dict[str, Callable[[Path], str | None]] = {
    "image": _read_image,
    "case": _read_case,
    "label": _read_label,
    "prepare": _read_prepare_config,
    "train": _read_train_config,
    "splits": _read_splits,
    "store": _read_store,
}
