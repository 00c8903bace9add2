#!/usr/bin/env bash
# MONAI 1.6.1, torch 2.13.0: with mode="gaussian", most voxels of a 3D window have one and the same weight.
#
# `sliding_window_inference(..., mode="gaussian")` multiplies a Gaussian of each axis (sigma an eighth of the window)
# and raises all products below 0.001 to 0.001. The bound is absolute, so the share of voxels at it grows with the
# number of axes: 6 % with one, 32 % with two, 58 % with three. Two windows of which both are at the bound are
# averaged as with mode="constant". With the default overlap of 0.25, this decides 16 % of the voxels inside of a 3D
# image. A product of Gaussians would weigh two windows that differ along x alone by their places along x, wherever a
# voxel lies along y and z. Here they are weighed so in the middle of y and z, and equally at the corners.
#
# Output seen:
#   1 axis: 0.062 of the voxels at the bound
#   2 axes: 0.323 of the voxels at the bound
#   3 axes: 0.581 of the voxels at the bound
#   inside of an image: 0.161 of the voxels have no window above the bound
#   in the middle of y and z: offset +17.3 along x, weighed by the Gaussians
#   at the corners of y and z: offset -3.5 along x, the plain mean of +20.5 and -27.5
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 monai==1.6.1
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/output"
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference

SIZE, BOUND = 64, 1e-3


def at_bound(weights):
    return weights <= BOUND * 1.001


for axes in (1, 2, 3):
    weights = compute_importance_map((SIZE,) * axes, mode="gaussian")
    print(f"{axes} {'axis' if axes == 1 else 'axes'}: {at_bound(weights).float().mean():.3f} of the voxels at the bound")

# Windows every 48 voxels: a voxel's best window has it at most 24 voxels from its centre along each axis.
step = SIZE - SIZE // 4
margin = (SIZE - step) // 2
weights = compute_importance_map((SIZE,) * 3, mode="gaussian")
best = weights[(slice(margin, margin + step),) * 3]
print(f"inside of an image: {at_bound(best).float().mean():.3f} of the voxels have no window above the bound")

# The prediction of a window is how far each voxel lies from the window's centre along x.
length = SIZE + 2 * step
image = torch.arange(length, dtype=torch.float32).expand(1, 1, length, length, length)
centre = (SIZE - 1) / 2
stitched = sliding_window_inference(
    image, SIZE, 1, lambda window: window - window[..., :1] - centre, overlap=0.25, mode="gaussian"
)[0, 0]
x = step + int(centre) - 27  # 20.5 voxels after the centre of one window, 27.5 before that of the next one
middle = step + int(centre)
corner = middle - 24
for name, place in (("in the middle", middle), ("at the corners", corner)):
    found = stitched[place, place, x].item()
    print(f"{name} of y and z: offset {found:+.1f} along x")
PYTHON
diff - "$folder/output" <<'EXPECTED'
1 axis: 0.062 of the voxels at the bound
2 axes: 0.323 of the voxels at the bound
3 axes: 0.581 of the voxels at the bound
inside of an image: 0.161 of the voxels have no window above the bound
in the middle of y and z: offset +17.3 along x
at the corners of y and z: offset -3.5 along x
EXPECTED
