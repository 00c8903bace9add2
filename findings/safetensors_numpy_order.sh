#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.4.6: `safetensors.numpy.save` ignores the strides of an array.
#
# A transposed or Fortran-ordered array is written with the right shape and dtype, but its elements are in the order of
# the memory and not in that of the array. No error and no warning is raised, so a volume whose axes were permuted comes
# back scrambled. Of a transposed [[0, 1, 2], [3, 4, 5]], which is [[0, 3], [1, 4], [2, 5]], it returns
# [[0, 1], [2, 3], [4, 5]]. `numpy.save` keeps the order. Arrays must be passed through `numpy.ascontiguousarray` first.
#
# Output seen:
#   transposed: safetensors differs, numpy.save equal, contiguous copy equal
#   fortran: safetensors differs, numpy.save equal, contiguous copy equal
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON' | tee "$folder/output"
import io

import numpy as np
from safetensors.numpy import load, save

rows = np.arange(6, dtype=np.int16).reshape(2, 3)


def by_numpy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    stream.seek(0)
    return np.load(stream)


def verdict(array, read):
    assert (array.shape, array.dtype) == (read.shape, read.dtype)
    return "equal" if np.array_equal(array, read) else "differs"


for name, array in {"transposed": rows.T, "fortran": np.asfortranarray(rows)}.items():
    stored = load(save({"x": array}))["x"]
    copied = load(save({"x": np.ascontiguousarray(array)}))["x"]
    print(
        f"{name}: safetensors {verdict(array, stored)}, numpy.save {verdict(array, by_numpy(array))}, "
        f"contiguous copy {verdict(array, copied)}"
    )
assert load(save({"x": rows.T}))["x"].tolist() == [[0, 1], [2, 3], [4, 5]]
PYTHON
diff "$folder/output" - <<'EXPECTED'
transposed: safetensors differs, numpy.save equal, contiguous copy equal
fortran: safetensors differs, numpy.save equal, contiguous copy equal
EXPECTED
