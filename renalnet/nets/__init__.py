"""The networks: the paper's 3D_FCN_PPM and the baselines that it is compared with."""

from renalnet.nets.blocks import GraduallyEnhancedFeature, ResidualBlock, SegmentationNet
from renalnet.nets.build import build_net
from renalnet.nets.ppm import PyramidPooling

__all__ = ["GraduallyEnhancedFeature", "PyramidPooling", "ResidualBlock", "SegmentationNet", "build_net"]
