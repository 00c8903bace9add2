"""CT numbers in the form that every module expects: int16, not below the value of air."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.errors import InputError
from renalnet.types import HuArray

AIR_HU: Final = -1024
"""Lowest CT number that is kept. Scanners pad outside their field of view with lower ones (-2000, -3024, -32768)."""
_INT16_MAX: Final = int(np.iinfo(np.int16).max)


def to_hounsfield(values: NDArray[Any], where: object) -> HuArray:
    """Return CT numbers of any type as int16, rounded and clamped to [-1024, 32767].

    Args:
        values: CT numbers in HU, of any shape.
        where: name of the file in error messages.

    Raises:
        InputError: a value is not finite.
    """
    if not np.issubdtype(values.dtype, np.floating):
        # The limits must be values of the stored type, which may be unsigned or have only 8 bits.
        stored = np.iinfo(values.dtype)
        # `clip` has already made a new array, so int16 values need no second copy.
        whole: HuArray = values.clip(max(AIR_HU, stored.min), min(_INT16_MAX, stored.max)).astype(np.int16, copy=False)
        return whole
    if not np.isfinite(values).all():
        raise InputError(f"{where}: holds values that are not finite; export the scan again as CT numbers")
    rounded: HuArray = np.clip(np.rint(values), AIR_HU, _INT16_MAX).astype(np.int16)
    return rounded
