#!/usr/bin/env bash
# torch 2.13.0: the first sum of two meta tensors imports the compiler with SymPy, which takes seconds.
#
# Tensors on the "meta" device have shapes without values. They are used to count the operations and the memory of a
# network before it is built. The first operation of a process can import most of torch's compiler, although nothing is
# compiled. Which operation does so is hard to guess: `x + x`, ReLU, `torch.cat`, `mean` and BatchNorm (also in
# evaluation) import `torch._dynamo` and SymPy, over 800 modules. Convolutions, max pooling and softmax import SymPy
# alone, over 470 modules. `sum`, `clone`, `reshape` and a change of dtype import nothing. On the processor, none of
# them imports a module. Measured on one core: 1.8 to 2.6 s of processor time, 0.6 to 0.8 s, and none. `import torch`
# takes about 2 s there.
#
# Output seen:
#   operation        torch._dynamo  sympy
#   x + x            imported       imported
#   relu             imported       imported
#   cat              imported       imported
#   mean             imported       imported
#   batch_norm eval  imported       imported
#   conv3d           -              imported
#   max_pool3d       -              imported
#   softmax          -              imported
#   sum              -              -
#   clone            -              -
#   reshape          -              -
#   to bfloat16      -              -
#   on the processor: no module for any of them
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/output"
import subprocess
import sys

OPERATIONS = {
    "x + x": "x + x",
    "relu": "F.relu(x)",
    "cat": "torch.cat([x, x])",
    "mean": "x.mean()",
    "batch_norm eval": "nn.BatchNorm3d(1, device=x.device).eval()(x)",
    "conv3d": "F.conv3d(x, torch.ones(2, 1, 3, 3, 3, device=x.device))",
    "max_pool3d": "F.max_pool3d(x, 2)",
    "softmax": "x.softmax(1)",
    "sum": "x.sum()",
    "clone": "x.clone()",
    "reshape": "x.reshape(-1)",
    "to bfloat16": "x.to(torch.bfloat16)",
}
PROGRAM = """
import sys
import torch
import torch.nn.functional as F
from torch import nn
x = torch.ones(1, 1, 8, 8, 8, device="{device}")
before = set(sys.modules)
{operation}
new = set(sys.modules) - before
print("torch._dynamo" in new, "sympy" in new, len(new))
"""


def imports_of(operation, device):
    code = PROGRAM.format(operation=operation, device=device)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


print("operation        torch._dynamo  sympy")
for name, operation in OPERATIONS.items():
    dynamo, sympy, _ = ("imported" if word == "True" else "-" for word in imports_of(operation, "meta"))
    print(f"{name:16} {dynamo:14} {sympy}")
counts = {imports_of(operation, "cpu")[2] for operation in OPERATIONS.values()}
print("on the processor: no module for any of them" if counts == {"0"} else f"on the processor: {counts}")
PYTHON
diff <(sed -n '/^# Output seen:/,/^set/p' "$0" | sed -n 's/^#   //p' | sed 's/ *$//') <(sed 's/ *$//' "$folder/output")
