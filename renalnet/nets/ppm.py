"""Pyramid pooling module in 3D (paper, II.A.2, after Zhao et al. 2017)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renalnet.nets.blocks import Deconvolution


class PyramidBranch(nn.Module):
    """Pooling, 1×1×1 convolution with ReLU, and deconvolution with the kernel of the pooling.

    No BatchNorm on the pooled map, which may be a single voxel (reconstruction).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.convolution = nn.Conv3d(in_channels, out_channels, 1)
        self.deconvolution = Deconvolution(out_channels, out_channels, kernel)

    def forward(self, x: Tensor, wide: Tensor) -> Tensor:
        """(B, in, D, H, W), and the same in the format that is averaged in, to (B, out, D, H, W)."""
        pooled = F.relu(self.convolution(average_cells(wide, self.kernel).to(x.dtype)))
        restored: Tensor = self.deconvolution(pooled, list(x.shape[2:]))
        return restored


class PyramidPooling(nn.Module):
    """A shortcut and a branch for each kernel, concatenated; kernels larger than the map see all of it.

    `out_channels` counts the channels that come out: the input's, and a quarter of them for each
    branch. Without kernels the input comes out as it is.
    """

    def __init__(self, channels: int, kernels: Sequence[int] = (2, 4, 8, 16)) -> None:
        super().__init__()
        width = max(1, channels // 4)
        self.branches = nn.ModuleList(PyramidBranch(channels, width, kernel) for kernel in kernels)
        self.out_channels = channels + width * len(self.branches)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, `out_channels`, D, H, W)."""
        if not self.branches:
            return x
        # Sums need float32, and pooling on a processor has no bfloat16 kernel and copies from channels-last each time.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if x.device.type == "cpu":
            wide = wide.contiguous()
        return torch.cat([x, *(branch(x, wide) for branch in self.branches)], dim=1)


def average_cells(x: Tensor, kernel: int) -> Tensor:
    """Means over cubes of `kernel` voxels, (B, C, ⌈D/kernel⌉, ⌈H/kernel⌉, ⌈W/kernel⌉).

    A cube that reaches over the end of the map averages the real voxels in it only.
    """
    # A window larger than the map is refused by PyTorch; cut to the map it holds the same real voxels.
    window = [min(kernel, size) for size in x.shape[2:]]
    pooled = F.avg_pool3d(x, window, stride=window, ceil_mode=True, count_include_pad=False)
    return pooled.contiguous(memory_format=torch.channels_last_3d)
