#!/usr/bin/env bash
# torch 2.13.0, CPU, float32: a dilation decides what computes a convolution with a kernel of one voxel.
#
# A dilation has no effect on the result of a 1x1x1 kernel. On one thread, however, PyTorch gives such a convolution of
# two images to oneDNN only if it is dilated; otherwise `slow_conv3d` computes it. `slow_conv3d` also returns its result
# in channels-first memory for an input in channels-last memory, so that the layers after it leave that order, too. With
# two threads, the same call goes to oneDNN and keeps the order. A second rule applies to every convolution of a single
# image: up to 20480 for batch x channels x slices x rows of the input, a 3x3x3 convolution goes to `slow_conv3d` with
# any number of threads, however long a row is.
#
# Output seen:
#   1 thread, 1x1x1: aten::slow_conv3d_forward, channels-last False
#   1 thread, 1x1x1, dilation 2: aten::mkldnn_convolution, channels-last True, same numbers
#   2 threads, 1x1x1: aten::mkldnn_convolution, channels-last True
#   1 image, 3x3x3, product 20480: aten::slow_conv3d_forward
#   1 image, 3x3x3, product 20520: aten::mkldnn_convolution
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/output"
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile


def convolved(image, weight, threads, **options):
    torch.set_num_threads(threads)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        result = F.conv3d(image, weight, **options)
    (name,) = {event.key for event in seen.key_averages()} & {"aten::slow_conv3d_forward", "aten::mkldnn_convolution"}
    return name, result


def order(result):
    return f"channels-last {result.is_contiguous(memory_format=torch.channels_last_3d)}"


torch.manual_seed(0)
image = torch.randn(2, 8, 16, 24, 24).contiguous(memory_format=torch.channels_last_3d)
weight = torch.randn(16, 8, 1, 1, 1)
name, plain = convolved(image, weight, 1)
print(f"1 thread, 1x1x1: {name}, {order(plain)}")
name, dilated = convolved(image, weight, 1, dilation=2)
assert torch.allclose(plain, dilated, atol=1e-5)
print(f"1 thread, 1x1x1, dilation 2: {name}, {order(dilated)}, same numbers")
name, result = convolved(image, weight, 2)
print(f"2 threads, 1x1x1: {name}, {order(result)}")
kernel = torch.randn(8, 8, 3, 3, 3)
for slices, rows in ((16, 160), (19, 135)):
    single = torch.randn(1, 8, slices, rows, 300)
    print(f"1 image, 3x3x3, product {8 * slices * rows}: {convolved(single, kernel, 2, padding=1)[0]}")
PYTHON
diff "$folder/output" - <<'EXPECTED'
1 thread, 1x1x1: aten::slow_conv3d_forward, channels-last False
1 thread, 1x1x1, dilation 2: aten::mkldnn_convolution, channels-last True, same numbers
2 threads, 1x1x1: aten::mkldnn_convolution, channels-last True
1 image, 3x3x3, product 20480: aten::slow_conv3d_forward
1 image, 3x3x3, product 20520: aten::mkldnn_convolution
EXPECTED
