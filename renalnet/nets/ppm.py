"""Pyramid pooling module in 3D (paper, II.A.2, after Zhao et al. 2017)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.nets.blocks import Deconvolution, PointwiseConvolution


class PyramidBranch(nn.Module):
    """Average pooling, 1×1×1 convolution with ReLU, and deconvolution with the kernel size of the pooling.

    There is no BatchNorm on the pooled map, because it may be a single voxel (reconstruction).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.convolution = PointwiseConvolution(in_channels, out_channels)
        self.deconvolution = Deconvolution(out_channels, out_channels, kernel)

    def forward(self, x: Tensor, wide: Tensor) -> Tensor:
        """Map `x` (B, in, D, H, W), and the same as `wide` in the dtype for averaging, to (B, out, D, H, W)."""
        pooled = F.relu(self.convolution(average_cells(wide, self.kernel).to(x.dtype)))
        restored: Tensor = self.deconvolution(pooled, list(x.shape[2:]))
        return restored


class PyramidPooling(nn.Module):
    """Concatenation of the input and one branch per kernel. A kernel larger than the map averages the whole map.

    `out_channels` is the number of output channels: those of the input, and a quarter of them for each branch. Without
    kernels, the output is the input.
    """

    def __init__(self, channels: int, kernels: Sequence[int] = (2, 4, 8, 16)) -> None:
        super().__init__()
        width = max(1, channels // 4)
        self.branches = nn.ModuleList(PyramidBranch(channels, width, kernel) for kernel in kernels)
        self.out_channels = channels + width * len(self.branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to (B, `out_channels`, D, H, W)."""
        if not self.branches:
            return x
        # Averages are summed in float32. On a CPU, pooling has no bfloat16 kernel and copies channels-last input on
        # each call, so that one copy for all branches is faster.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if x.device.type == "cpu":
            wide = wide.contiguous()
        return torch.cat([x, *(branch(x, wide) for branch in self.branches)], dim=1)


def average_cells(x: Tensor, kernel: int) -> Tensor:
    """Return the means over cubes with an edge of `kernel` voxels, (B, C, ⌈D/kernel⌉, ⌈H/kernel⌉, ⌈W/kernel⌉).

    A cube that extends past the end of the map averages only the voxels inside the map.
    """
    # PyTorch refuses a window larger than the map. Limited to the map, it holds the same voxels.
    window = [min(kernel, size) for size in x.shape[2:]]
    pooled = F.avg_pool3d(x, window, stride=window, ceil_mode=True, count_include_pad=False)
    # The pooling returns channels-first memory, which all later layers would keep. Inference then took 0.20 instead of
    # 0.11 s (torch 2.13).
    return pooled.contiguous(memory_format=torch.channels_last_3d)
