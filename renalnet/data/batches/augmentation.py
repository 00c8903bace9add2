"""Optional augmentation in two halves: draw parameters from a generator, then apply them on the batch's device.

Intensities are changed on the scale from 0 to 1 between the bounds of the normalisation, and clipped to it. A change of
geometry applies to image and label alike, with the nearest voxel for labels; voxels from outside the crop become
`hu_min` and `IGNORE_LABEL`. On a CPU the same parameters give the same voxels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from renalnet.config import AugmentConfig, Chance, Normalisation
from renalnet.data.batches.random_streams import Purpose, stream
from renalnet.types import IGNORE_LABEL


class IntensityChange(Protocol):
    """A change of the values of an image."""

    def apply(self, image: Tensor) -> Tensor:
        """Return a changed copy of an image (D, H, W) of intensities 0 to 1; results may exceed that range."""
        ...


@dataclass(frozen=True)
class Shift:
    """Addition of a constant."""

    amount: float
    """Constant, as a share of the range of intensities."""

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`."""
        return image + self.amount


@dataclass(frozen=True)
class Contrast:
    """Scaling of intensities about the middle of their range."""

    factor: float

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`."""
        return (image - 0.5) * self.factor + 0.5


@dataclass(frozen=True)
class Gamma:
    """Power of the intensities, which are clipped to 0 to 1 first."""

    exponent: float

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`."""
        return image.clamp(0, 1) ** self.exponent


@dataclass(frozen=True)
class Blur:
    """Convolution with a Gaussian."""

    sigma_voxels: float
    """Standard deviation along each axis."""

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`; the border voxels are repeated outwards."""
        radius = max(math.ceil(3 * self.sigma_voxels), 1)
        offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
        kernel = torch.exp(-((offsets / self.sigma_voxels) ** 2) / 2)
        kernel = kernel / kernel.sum()
        blurred = image[None, None]
        # A Gaussian is separable: three lines of taps instead of a cube of them.
        for axis in range(3):
            shape = [1] * 3
            pad = [0] * 6
            shape[axis] = len(kernel)
            pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius  # F.pad counts axes from the last
            blurred = F.conv3d(F.pad(blurred, pad, mode="replicate"), kernel.view(1, 1, *shape))
        return blurred[0, 0]


@dataclass(frozen=True)
class Noise:
    """Addition of white Gaussian noise."""

    sigma: float
    """Standard deviation, as a share of the range of intensities."""
    seed: int
    """Seed of the noise."""

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`; the noise is drawn on the image's device."""
        generator = torch.Generator(image.device).manual_seed(self.seed)
        field = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        return image + self.sigma * field


@dataclass(frozen=True)
class Placement:
    """In-plane rotation, and scaling along all three axes, about the middle of the crop.

    In-plane pixels are square, as those of CTs.
    """

    degrees: float = 0.0
    """Rotation about z, from y towards x."""
    zoom: float = 1.0
    """Scale; above 1 the content grows."""

    def apply(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return a moved image (D, H, W) of intensities 0 to 1 and its label.

        The image is interpolated trilinearly, the label by the nearest voxel.
        """
        grid = self._grid(image)
        moved = F.grid_sample(image[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        # `grid_sample` pads with zeros only, so the difference from `IGNORE_LABEL` is sampled: 0 becomes that label.
        distance = (IGNORE_LABEL - label.to(image.dtype))[None, None]
        nearest = F.grid_sample(distance, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return moved[0, 0], (IGNORE_LABEL - nearest[0, 0]).to(label.dtype)

    def _grid(self, image: Tensor) -> Tensor:
        """Return the origin of each voxel, (1, D, H, W, 3), in `grid_sample`'s coordinates (x, y, z) of -1 to 1."""
        _, height, width = image.shape
        angle = math.radians(self.degrees)
        cosine = math.cos(angle)
        sine = math.sin(angle)
        aspect = height / width  # coordinates of -1 to 1 have the same range along both axes, pixels do not
        rows = [[cosine, -sine * aspect, 0, 0], [sine / aspect, cosine, 0, 0], [0, 0, 1, 0]]
        # `affine_grid` maps from the output to the input, hence the division.
        theta = torch.tensor([rows], dtype=image.dtype, device=image.device) / self.zoom
        return F.affine_grid(theta, [1, 1, *image.shape], align_corners=False)


@dataclass(frozen=True)
class Augmentation:
    """The changes of one crop, in this order: placement, then intensities."""

    placement: Placement | None
    intensities: tuple[IntensityChange, ...]

    def apply(self, image: Tensor, label: Tensor, normalisation: Normalisation) -> tuple[Tensor, Tensor]:
        """Return changed copies of a normalised image (D, H, W) and its label, or both as given without a change."""
        if self.placement is None and not self.intensities:
            return image, label
        scaled = image + normalisation.mean
        if self.placement is not None:
            scaled, label = self.placement.apply(scaled, label)
        for change in self.intensities:
            scaled = change.apply(scaled)
        return scaled.clamp(0, 1) - normalisation.mean, label


class Augmenter:
    """Augmentation of crops by their number; a function of the seed and that number alone."""

    def __init__(self, config: AugmentConfig, normalisation: Normalisation, seed: int) -> None:
        self._config = config
        self._normalisation = normalisation
        self._seed = seed

    @property
    def is_off(self) -> bool:
        """Whether no crop is changed."""
        return not any(chance.probability for _, chance in self._config)

    def draw(self, crop: int) -> Augmentation:
        """Draw the changes of a crop."""
        generator = stream(self._seed, Purpose.AUGMENTATION, crop)
        drawn = {name: _draw(chance, generator) for name, chance in self._config}
        # Only the seed is drawn here, because the noise itself is drawn on the device.
        noise_seed = int(generator.integers(2**63))
        place = {name: value for name in ("degrees", "zoom") if (value := drawn[name]) is not None}
        return Augmentation(Placement(**place) if place else None, self._intensities(drawn, noise_seed))

    def apply(self, first_crop: int, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return changed copies of crops (B, D, H, W), which are numbered from `first_crop` on."""
        crops = enumerate(zip(image, label, strict=True), start=first_crop)
        changed = [self.draw(crop).apply(one, classes, self._normalisation) for crop, (one, classes) in crops]
        return torch.stack([one for one, _ in changed]), torch.stack([classes for _, classes in changed])

    def _intensities(self, drawn: dict[str, float | None], noise_seed: int) -> tuple[IntensityChange, ...]:
        hu_range = self._normalisation.hu_max - self._normalisation.hu_min
        # The changes are applied in this order; blur comes before noise, which it would smooth.
        makers: dict[str, Callable[[float], IntensityChange]] = {
            "blur_voxels": Blur,
            "noise_hu": lambda sigma_hu: Noise(sigma_hu / hu_range, noise_seed),
            "shift_hu": lambda amount_hu: Shift(amount_hu / hu_range),
            "contrast": Contrast,
            "gamma": Gamma,
        }
        return tuple(make(value) for name, make in makers.items() if (value := drawn[name]) is not None)


def _draw(chance: Chance, generator: np.random.Generator) -> float | None:
    """Draw a value, or None by chance."""
    # Two draws in either case, so that one option does not change the draws of the others.
    happens = generator.random() < chance.probability
    value = float(generator.uniform(*chance.range))
    return value if happens else None
