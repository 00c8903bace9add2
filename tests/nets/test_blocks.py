import pytest
import torch
from torch import nn

from renalnet.nets import GraduallyEnhancedFeature, ResidualBlock
from renalnet.nets.blocks import Deconvolution


def test_residual_block_holds_three_convolutions_at_half_width_inside():
    block = ResidualBlock(8, 8, dilation=4)
    convolutions = [module for module in block.modules() if isinstance(module, nn.Conv3d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0], c.dilation[0]) for c in convolutions] == [
        (8, 4, 1, 1),
        (4, 4, 3, 4),
        (4, 8, 1, 1),
    ]


def test_residual_block_projects_only_where_the_width_changes():
    assert ResidualBlock(8, 8).projection is None
    assert ResidualBlock(4, 8)(torch.ones(1, 4, 3, 5, 2)).shape == (1, 8, 3, 5, 2)


def test_residual_block_with_a_silent_body_is_the_rectified_input():
    block = ResidualBlock(4, 4).eval()
    nn.init.zeros_(block.body[2][0].weight)
    x = torch.tensor([-1.0, 0.0, 2.0, -3.0]).view(1, 4, 1, 1, 1)
    assert block(x).flatten().tolist() == [0.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("kernel", [1, 2, 3, 8])
def test_deconvolution_equals_transposed_convolution(kernel):
    torch.manual_seed(0)
    ours = Deconvolution(3, 5, kernel)
    theirs = nn.ConvTranspose3d(3, 5, kernel, stride=kernel)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 2, 3, 1)
    torch.testing.assert_close(ours(x), theirs(x))


def test_deconvolution_crops_at_the_end():
    deconvolution = Deconvolution(1, 1, 4)
    x = torch.randn(1, 1, 2, 2, 2)
    torch.testing.assert_close(deconvolution(x, [5, 8, 7]), deconvolution(x)[..., :5, :8, :7])


def test_gradually_enhanced_feature_doubles_the_deep_feature():
    step = GraduallyEnhancedFeature(deep_channels=6, skip_channels=4, out_channels=2)
    assert step(torch.ones(1, 6, 2, 3, 4), torch.ones(1, 4, 4, 6, 8)).shape == (1, 2, 4, 6, 8)
