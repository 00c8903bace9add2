"""One decoded copy of a split's patients on a node, mapped by all of a user's processes there.

A sparse file in shared memory (or in the temporary folder, whose pages are shared as well) has a place for each
patient. Whoever needs a patient that is not there decodes it under that patient's lock; the others wait for it. A
patient counts as there only once its mark is written, behind its voxels, and the kernel frees the locks of a process
that is killed, so half a patient is never used and never waited for.
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
from renalnet.types import FOREGROUND_LABELS, NUM_CLASSES, HuArray, LabelArray

LAYOUT: Final = 1
"""Part of the copy's name, so that programs of different layouts do not meet."""
_SLAB: Final = np.dtype(
    [
        ("start", np.int64),
        ("counts", np.int64, (NUM_CLASSES,)),
        ("num_anchors", np.int64, (len(FOREGROUND_LABELS),)),
        ("anchors", np.int16, (len(FOREGROUND_LABELS), NUM_ANCHORS, 3)),
    ]
)
_DATA: Final = "voxels"
_log = get_logger(__name__)


def copy_bytes(shapes: NDArray[np.int64], num_slabs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes that each patient takes, whole pages: int16 and uint8 a voxel, and what is known of its slabs."""
    exact: NDArray[np.int64] = 3 * shapes.prod(axis=1) + _SLAB.itemsize * num_slabs
    return -(-exact // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


def find_room(name: str, num_bytes: int) -> Path | None:
    """Where on this node a copy of that name is or has room: shared memory, then the temporary folder, else none."""
    for base in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        home = private_home(base)
        if home is None:
            continue
        remove_leftovers(home)
        if (home / name).is_dir() or shutil.disk_usage(home).free >= num_bytes:
            return home / name
    return None


class NodeCopy:
    """The places of the patients; `read` gives one from shared memory."""

    def __init__(self, folder: NodeFolder, source: CaseSource, shapes: NDArray[np.int64], num_slabs: NDArray[np.int64]):
        """Join or begin the copy in `folder`; nothing is decoded yet. Raises OSError."""
        self._folder, self._source = folder, source
        self._shapes, self._num_slabs = shapes, num_slabs
        self._sizes = copy_bytes(shapes, num_slabs)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        with (folder.path / _DATA).open("ab") as file:
            os.ftruncate(file.fileno(), int(self._sizes.sum()))
        with (folder.path / _DATA).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._told = False

    def read(self, number: int) -> DecodedCase:
        """A patient, from shared memory or decoded into it. Raises StoreError."""
        with _lock(self._folder.path / f"{number:06d}") as mark:
            if not os.fstat(mark).st_size:
                patient = self._source.read(number)
                if not self._write(number, patient):
                    return patient
                os.write(mark, b"+")
        slabs, image, label = self._views(number, self._map, int(self._offsets[number]))
        return DecodedCase(image, label, _read_class_locations(slabs))

    def close(self) -> None:
        """Leave the copy; it goes with its last user. Cases that were read stay valid."""
        self._folder.close()

    def _write(self, number: int, patient: DecodedCase) -> bool:
        """Whether there was room for the patient."""
        offset, size = int(self._offsets[number]), int(self._sizes[number])
        with (self._folder.path / _DATA).open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), offset, size)  # else a full disk would be met as a SIGBUS
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._tell_full()
                return False
            memory = mmap.mmap(file.fileno(), size, offset=offset)
        slabs, image, label = self._views(number, memory, 0)
        _write_class_locations(slabs, patient.locations)
        np.copyto(image, patient.image)
        np.copyto(label, patient.label)
        return True

    def _views(self, number: int, memory: mmap.mmap, offset: int) -> tuple[NDArray[Any], HuArray, LabelArray]:
        """Slabs, image and label of a patient whose place begins at `offset` of the memory."""
        num_slabs, shape = int(self._num_slabs[number]), tuple(self._shapes[number].tolist())
        slabs = np.frombuffer(memory, _SLAB, num_slabs, offset)
        image = np.frombuffer(memory, np.int16, math.prod(shape), offset + slabs.nbytes)
        label = np.frombuffer(memory, np.uint8, image.size, offset + slabs.nbytes + image.nbytes)
        return slabs, image.reshape(shape), label.reshape(shape)

    def _tell_full(self) -> None:
        if not self._told:
            _log.warning("%s is full: the patients left are decoded by each process for itself", self._folder.path)
        self._told = True


def _write_class_locations(slabs: NDArray[Any], locations: ClassLocations) -> None:
    slabs["start"], slabs["counts"] = locations.starts, locations.counts
    for column, label in enumerate(FOREGROUND_LABELS):
        for slab, anchors in zip(slabs, locations.anchors(label), strict=True):
            slab["num_anchors"][column] = len(anchors)
            slab["anchors"][column, : len(anchors)] = anchors


def _read_class_locations(slabs: NDArray[Any]) -> ClassLocations:
    kidney, tumor = (
        tuple(slab["anchors"][column, : slab["num_anchors"][column]] for slab in slabs)
        for column in range(len(FOREGROUND_LABELS))
    )
    return ClassLocations(slabs["counts"], slabs["start"], kidney, tumor)


@contextmanager
def _lock(path: Path) -> Iterator[int]:
    """An open file that nobody else, thread or process, holds inside the block."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)
