import pytest
import torch

from renalnet.nets import PyramidPooling
from renalnet.nets.ppm import average_cells


def test_averages_over_real_voxels_only():
    x = torch.arange(1.0, 6.0).view(1, 1, 1, 1, 5)
    assert average_cells(x, 2).flatten().tolist() == [1.5, 3.5, 5.0]
    assert average_cells(x, 4).flatten().tolist() == [2.5, 5.0]


@pytest.mark.parametrize("kernel", [5, 16])
def test_kernel_as_large_as_the_map_sees_all_of_it(kernel):
    x = torch.arange(30.0).view(1, 1, 2, 3, 5)
    assert average_cells(x, kernel).flatten().tolist() == [14.5]


@pytest.mark.parametrize("kernel", [1, 2, 3, 8])
def test_a_constant_map_stays_constant_on_odd_sizes(kernel):
    cells = average_cells(torch.full((1, 2, 3, 5, 7), 0.75), kernel)
    assert torch.equal(cells, torch.full_like(cells, 0.75))


def test_averages_bfloat16_with_float32_sums():
    """The mean of ones and one 3 in sixteen values is 1.125, minus 1: a sum with eight bits would lose the rest."""
    pyramid = PyramidPooling(1, (16,))
    with torch.no_grad():
        pyramid.branches[0].convolution.weight.fill_(1)
        pyramid.branches[0].convolution.bias.fill_(-1)
        pyramid.branches[0].deconvolution.weight.fill_(1)
        pyramid.branches[0].deconvolution.bias.zero_()
    x = torch.ones(1, 1, 16, 16, 16, dtype=torch.bfloat16)
    x[..., 0] = 3
    cell = pyramid.bfloat16()(x)[0, 1]
    assert cell.dtype == torch.bfloat16
    assert torch.equal(cell, torch.full_like(cell, 0.125))


def test_branch_by_hand():
    """Means 1.5, 3.5 and 5 are doubled, reduced by four, rectified, tripled and repeated; the third cell is cropped."""
    pyramid = PyramidPooling(1, (2,))
    branch = pyramid.branches[0]
    with torch.no_grad():
        branch.convolution.weight.fill_(2)
        branch.convolution.bias.fill_(-4)
        branch.deconvolution.weight.fill_(3)
        branch.deconvolution.bias.zero_()
    x = torch.arange(1.0, 6.0).view(1, 1, 1, 1, 5)
    assert pyramid(x)[0, 0].flatten().tolist() == [1, 2, 3, 4, 5]
    assert pyramid(x)[0, 1].flatten().tolist() == [0, 0, 9, 9, 18]


@pytest.mark.parametrize("kernels", [(), (3,), (2, 4, 8, 16), (1, 2, 5, 7, 32)])
def test_channels_are_the_shortcut_and_a_quarter_a_branch(kernels):
    pyramid = PyramidPooling(8, kernels)
    assert pyramid.out_channels == 8 + 2 * len(kernels)
    x = torch.randn(1, 8, 3, 1, 5)
    y = pyramid(x)
    assert y.shape == (1, pyramid.out_channels, 3, 1, 5)
    assert torch.equal(y[:, :8], x)
    assert [branch.deconvolution.kernel_size for branch in pyramid.branches] == [(k, k, k) for k in kernels]
