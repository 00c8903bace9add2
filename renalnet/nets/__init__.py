"""The networks: the paper's 3D_FCN_PPM and the baselines that it is compared with."""

from renalnet.nets.blocks import GraduallyEnhancedFeature, ResidualBlock, SegmentationNet
from renalnet.nets.ppm import PyramidPooling
from renalnet.nets.registry import build_net

__all__ = ["GraduallyEnhancedFeature", "PyramidPooling", "ResidualBlock", "SegmentationNet", "build_net"]
