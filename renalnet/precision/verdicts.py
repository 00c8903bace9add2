"""What is known of convolutions on this kind of processor, kept in the user's cache folder."""

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch

from renalnet.errors import InputError
from renalnet.precision.agreement import faults_of
from renalnet.precision.convolutions import Convolution
from renalnet.runtime import storage
from renalnet.runtime.device import processor_name
from renalnet.runtime.log import get_logger

_LIMIT_S: Final = 30.0
"""Seconds for the convolutions of a network that nothing is known of."""
_MAX_BYTES: Final = 10_000_000
_log = get_logger(__name__)


class Verdicts:
    """The faults of convolutions that were found before by this processor, PyTorch and number of threads."""

    def __init__(self, file: Path, environment: str) -> None:
        """Read `file`. One that is missing or damaged, or that cannot be written, is as good as none."""
        self._file = file
        self._environment = environment
        self._faults = self._read()

    def of(self, convolutions: Iterable[Convolution]) -> dict[Convolution, str | None]:
        """Return what is wrong with each convolution, empty if nothing is; None if there was no time to check it."""
        wanted = list(convolutions)
        new = [convolution for convolution in wanted if str(convolution) not in self._faults]
        if new:
            _log.info("checking %d kinds of convolutions in bfloat16 against float32 on this processor", len(new))
            found = {str(convolution): fault for convolution, fault in faults_of(new, _LIMIT_S)}
            # Read again, because another process may have written in the meantime.
            self._faults = self._read() | self._faults | found
            self._write()
        return {convolution: self._faults[str(convolution)] for convolution in wanted}

    def _read(self) -> dict[str, str | None]:
        try:
            content = storage.read_json(self._file, max_bytes=_MAX_BYTES)
        except (OSError, InputError):
            return {}
        return _faults_in(content)

    def _write(self) -> None:
        content = {"environment": self._environment, "faults": self._faults}
        try:
            storage.write_json(self._file, content)
        except OSError as error:
            _log.debug("%s: not written (%s)", self._file, error)


def known_verdicts() -> Verdicts:
    """Return the verdicts of this process, which remembers them where the cache folder cannot be written."""
    environment = f"{processor_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    return _verdicts(_folder(), environment)


@lru_cache(maxsize=8)
def _verdicts(folder: Path, environment: str) -> Verdicts:
    name = hashlib.sha256(environment.encode()).hexdigest()[:16]
    return Verdicts(folder / f"{name}.json", environment)


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "renalnet" / "convolutions"


def _faults_in(content: Any) -> dict[str, str | None]:
    faults = content.get("faults") if isinstance(content, dict) else None
    if not isinstance(faults, dict):
        return {}
    return {key: fault for key, fault in faults.items() if fault is None or isinstance(fault, str)}
