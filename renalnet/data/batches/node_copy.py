"""One decoded copy of the cases of a split on a node, mapped by all processes of a user there.

A sparse file in shared memory (or in the temporary folder, whose pages are shared as well) has a place for each case. A
process that needs a missing case decodes it under the case's lock, and the others wait. A case counts as present only
after its mark is written, which happens after its voxels. The kernel frees the locks of a killed process. A partly
written case is therefore never used, and nobody waits for it.
"""

import fcntl
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.data.batches.decoded_cases import CaseSource, DecodedCase
from renalnet.data.batches.node_folder import NodeFolder, private_home, remove_leftovers
from renalnet.data.store.class_locations import NUM_ANCHORS, ClassLocations
from renalnet.runtime.log import get_logger
from renalnet.runtime.storage import FULL
from renalnet.types import HuArray, LabelArray

LAYOUT: Final = 1
"""Version of the layout, a part of the copy's name, so that programs with other layouts use other copies."""
_DATA: Final = "voxels"
_log = get_logger(__name__)


def _slab_dtype(num_labels: int) -> np.dtype[Any]:
    """Return the type of the class locations of a slab."""
    # Every slab has room for all anchors, so that the place of a case is known before it is decoded.
    return np.dtype(
        [
            ("start", np.int64),
            ("counts", np.int64, (1 + num_labels,)),
            ("num_anchors", np.int64, (num_labels,)),
            ("anchors", np.int16, (num_labels, NUM_ANCHORS, 3)),
        ]
    )


def copy_bytes(shapes: NDArray[np.int64], num_slabs: NDArray[np.int64], num_labels: int) -> NDArray[np.int64]:
    """Return the bytes of each case in whole pages: int16 and uint8 per voxel, and the locations of its classes."""
    exact: NDArray[np.int64] = 3 * shapes.prod(axis=1) + _slab_dtype(num_labels).itemsize * num_slabs
    # `mmap` accepts only such multiples as offsets.
    return -(-exact // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


def find_room(name: str, num_bytes: int) -> Path | None:
    """Return the path of a copy on this node, where it already is or has room.

    Shared memory is tried first, then the temporary folder. None where neither has room.
    """
    for base in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        home = private_home(base)
        if home is None:
            continue
        remove_leftovers(home)
        if (home / name).is_dir() or shutil.disk_usage(home).free >= num_bytes:
            return home / name
    return None


class NodeCopy:
    """Source that shares decoded cases between the processes of a node."""

    def __init__(
        self,
        folder: NodeFolder,
        source: CaseSource,
        shapes: NDArray[np.int64],
        num_slabs: NDArray[np.int64],
        num_labels: int,
    ) -> None:
        """Join the copy in `folder`, or begin one; no case is decoded yet.

        Args:
            folder: folder of the copy.
            source: source of the cases that the copy does not have yet.
            shapes: voxels (z, y, x) of each ROI, shape (N, 3).
            num_slabs: slabs of each ROI, shape (N,).
            num_labels: number of labels, without background.

        Raises:
            OSError: the copy cannot be made.
        """
        self._folder = folder
        self._source = source
        self._shapes = shapes
        self._num_slabs = num_slabs
        self._slab = _slab_dtype(num_labels)
        self._sizes = copy_bytes(shapes, num_slabs, num_labels)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        # Append mode creates the file but never empties it, so a process that joins loses no case of others.
        with (folder.path / _DATA).open("ab") as file:
            os.ftruncate(file.fileno(), int(self._sizes.sum()))
        with (folder.path / _DATA).open("rb") as file:
            # Read-only, so that nothing can change the cases of other processes by mistake.
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._has_warned = False

    def read(self, number: int) -> DecodedCase:
        """Return a case from shared memory, after decoding it into there if it is missing. Raises StoreError.

        Where the memory is full, the decoded case is not shared.
        """
        with _lock(self._folder.path / f"{number:06d}") as mark:
            if not os.fstat(mark).st_size:
                case = self._source.read(number)
                if not self._write(number, case):
                    return case
                os.write(mark, b"+")
        slabs, image, label = self._views(number, self._map, int(self._offsets[number]))
        return DecodedCase(image, label, _read_class_locations(slabs))

    def close(self) -> None:
        """Leave the copy; its last user removes it. Cases that were read stay valid."""
        self._folder.close()

    def _write(self, number: int, case: DecodedCase) -> bool:
        """Write a case to its place; return whether there was room for it."""
        offset = int(self._offsets[number])
        size = int(self._sizes[number])
        with (self._folder.path / _DATA).open("r+b") as file:
            try:
                # Without this a full disk would end the process by SIGBUS when it writes to the mapped memory.
                os.posix_fallocate(file.fileno(), offset, size)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._warn_once()
                return False
            memory = mmap.mmap(file.fileno(), size, offset=offset)
        slabs, image, label = self._views(number, memory, 0)
        _write_class_locations(slabs, case.locations)
        np.copyto(image, case.image)
        np.copyto(label, case.label)
        return True

    def _views(self, number: int, memory: mmap.mmap, offset: int) -> tuple[NDArray[Any], HuArray, LabelArray]:
        """Return views of slabs, image and label of a case whose place begins at `offset` of `memory`."""
        num_slabs = int(self._num_slabs[number])
        shape = tuple(self._shapes[number].tolist())
        slabs = np.frombuffer(memory, self._slab, num_slabs, offset)
        image = np.frombuffer(memory, np.int16, math.prod(shape), offset + slabs.nbytes)
        label = np.frombuffer(memory, np.uint8, image.size, offset + slabs.nbytes + image.nbytes)
        return slabs, image.reshape(shape), label.reshape(shape)

    def _warn_once(self) -> None:
        if not self._has_warned:
            _log.warning("%s is full; each process decodes the remaining cases for itself", self._folder.path)
        self._has_warned = True


def _write_class_locations(slabs: NDArray[Any], locations: ClassLocations) -> None:
    slabs["start"] = locations.starts
    slabs["counts"] = locations.counts
    for column, listed in enumerate(locations.listed):
        for slab, anchors in zip(slabs, listed, strict=True):
            slab["num_anchors"][column] = len(anchors)
            slab["anchors"][column, : len(anchors)] = anchors


def _read_class_locations(slabs: NDArray[Any]) -> ClassLocations:
    num_labels = slabs["num_anchors"].shape[1]
    listed = tuple(
        tuple(slab["anchors"][column, : slab["num_anchors"][column]] for slab in slabs) for column in range(num_labels)
    )
    return ClassLocations(slabs["counts"], slabs["start"], listed)


@contextmanager
def _lock(path: Path) -> Iterator[int]:
    """Yield an open file under a lock that no other thread or process has inside the block."""
    # Opened for each lock, because `flock` excludes open files, not threads or processes.
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        # This frees the lock too.
        os.close(file)
