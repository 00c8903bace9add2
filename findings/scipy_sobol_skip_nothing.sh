#!/usr/bin/env bash
# scipy 1.17.1, numpy 2.4.6: `fast_forward(0)` of a new Sobol engine raises OverflowError.
#
# A common way to give each of several processes its own point is `Sobol(d, rng=seed).fast_forward(index).random(1)`. It
# works for every index but the first: a new engine moves by `n - 1`, because it holds its first point ready, and -1 is
# no unsigned number. The same call is allowed after a point was drawn, and for the Halton engine. Skip only where the
# index is above 0, or draw `index + 1` points and take the last one.
#
# Output seen:
#   Sobol, new engine: OverflowError
#   Sobol, after one point: moved by 0
#   Halton, new engine: moved by 0
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON' | tee "$folder/output"
import numpy as np
from scipy.stats import qmc


def moved(kind, num_drawn):
    engine = kind(3, rng=np.random.default_rng(0))
    for _ in range(num_drawn):
        engine.random(1)
    try:
        engine.fast_forward(0)
    except OverflowError as error:
        return type(error).__name__
    return f"moved by {engine.num_generated - num_drawn}"


print("Sobol, new engine:", moved(qmc.Sobol, 0))
print("Sobol, after one point:", moved(qmc.Sobol, 1))
print("Halton, new engine:", moved(qmc.Halton, 0))
PYTHON
diff "$folder/output" - <<'EXPECTED'
Sobol, new engine: OverflowError
Sobol, after one point: moved by 0
Halton, new engine: moved by 0
EXPECTED
