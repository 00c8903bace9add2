"""Optional augmentation in two halves: draw parameters from a generator, then apply them on the batch's device.

Intensities are changed in the scale that the network sees, 0 to 1 between the normalisation's bounds less its mean,
and clipped to it again. A change of place moves image and label alike, labels by the nearest voxel; what comes from
outside the crop is `hu_min` and `IGNORE_LABEL`. On a processor the same parameters give the same voxels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from renalnet.config import AugmentConfig, Chance
from renalnet.data.batches.random_streams import Purpose, stream
from renalnet.data.store.manifest import Normalisation
from renalnet.types import IGNORE_LABEL


class IntensityChange(Protocol):
    """A change of the voxels' values."""

    def apply(self, image: Tensor) -> Tensor:
        """A changed copy of an image (D, H, W) of intensities 0 to 1."""
        ...


@dataclass(frozen=True)
class Shift:
    """Adds a constant."""

    amount: float

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`."""
        return image + self.amount


@dataclass(frozen=True)
class Contrast:
    """Stretches intensities about the middle of the range."""

    factor: float

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`."""
        return (image - 0.5) * self.factor + 0.5


@dataclass(frozen=True)
class Gamma:
    """Raises intensities to a power."""

    exponent: float

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`."""
        return image.clamp(0, 1) ** self.exponent


@dataclass(frozen=True)
class Blur:
    """Convolves with a Gaussian."""

    sigma_voxels: float

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`; edges are repeated outwards."""
        radius = max(math.ceil(3 * self.sigma_voxels), 1)
        offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
        kernel = torch.exp(-((offsets / self.sigma_voxels) ** 2) / 2)
        kernel = kernel / kernel.sum()
        blurred = image[None, None]
        for axis in range(3):
            shape, pad = [1] * 3, [0] * 6
            shape[axis] = len(kernel)
            pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius  # F.pad counts axes from the last
            blurred = F.conv3d(F.pad(blurred, pad, mode="replicate"), kernel.view(1, 1, *shape))
        return blurred[0, 0]


@dataclass(frozen=True)
class Noise:
    """Adds white Gaussian noise."""

    sigma: float
    seed: int
    """Of the noise itself."""

    def apply(self, image: Tensor) -> Tensor:
        """See `IntensityChange`; the noise is drawn on the image's device."""
        generator = torch.Generator(image.device).manual_seed(self.seed)
        field = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        return image + self.sigma * field


@dataclass(frozen=True)
class Placement:
    """Turns in-plane and scales about the middle of the crop; in-plane pixels are square, as CT's are."""

    degrees: float = 0.0
    """About z, from y towards x."""
    zoom: float = 1.0
    """Above 1 what is shown grows."""

    def apply(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Image (D, H, W) of intensities 0 to 1, by trilinear interpolation, and label, by the nearest voxel."""
        grid = self._grid(image)
        moved = F.grid_sample(image[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        # Outside is zero, so labels are told by their difference from the one that marks the outside.
        distance = (IGNORE_LABEL - label.to(image.dtype))[None, None]
        nearest = F.grid_sample(distance, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return moved[0, 0], (IGNORE_LABEL - nearest[0, 0]).to(label.dtype)

    def _grid(self, image: Tensor) -> Tensor:
        """Where each voxel comes from, (1, D, H, W, 3), in the (x, y, z) coordinates of -1 to 1 of `grid_sample`."""
        _, height, width = image.shape
        angle = math.radians(self.degrees)
        cosine, sine, aspect = math.cos(angle), math.sin(angle), height / width
        rows = [[cosine, -sine * aspect, 0, 0], [sine / aspect, cosine, 0, 0], [0, 0, 1, 0]]
        theta = torch.tensor([rows], dtype=image.dtype, device=image.device) / self.zoom
        return F.affine_grid(theta, [1, 1, *image.shape], align_corners=False)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a crop, in this order: placement, then intensities."""

    placement: Placement | None
    intensities: tuple[IntensityChange, ...]

    def apply(self, image: Tensor, label: Tensor, normalisation: Normalisation) -> tuple[Tensor, Tensor]:
        """Changed copies of a normalised image (D, H, W) and its label."""
        if self.placement is None and not self.intensities:
            return image, label
        scaled = image + normalisation.mean
        if self.placement is not None:
            scaled, label = self.placement.apply(scaled, label)
        for change in self.intensities:
            scaled = change.apply(scaled)
        return scaled.clamp(0, 1) - normalisation.mean, label


class Augmenter:
    """Changes crops by their number: a function of the seed and that number alone."""

    def __init__(self, config: AugmentConfig, normalisation: Normalisation, seed: int) -> None:
        self._config, self._normalisation, self._seed = config, normalisation, seed

    @property
    def is_off(self) -> bool:
        """Whether no crop is ever changed."""
        return not any(chance.probability for _, chance in self._config)

    def draw(self, crop: int) -> Augmentation:
        """What happens to a crop."""
        generator = stream(self._seed, Purpose.AUGMENTATION, crop)
        drawn = {name: _draw(chance, generator) for name, chance in self._config}
        noise_seed = int(generator.integers(2**63))
        place = {name: value for name in ("degrees", "zoom") if (value := drawn[name]) is not None}
        return Augmentation(Placement(**place) if place else None, self._intensities(drawn, noise_seed))

    def apply(self, first_crop: int, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Changed copies of crops (B, D, H, W) numbered from `first_crop` on."""
        crops = enumerate(zip(image, label, strict=True), start=first_crop)
        changed = [self.draw(crop).apply(one, classes, self._normalisation) for crop, (one, classes) in crops]
        return torch.stack([one for one, _ in changed]), torch.stack([classes for _, classes in changed])

    def _intensities(self, drawn: dict[str, float | None], noise_seed: int) -> tuple[IntensityChange, ...]:
        hu_range = self._normalisation.hu_max - self._normalisation.hu_min
        makers: dict[str, Callable[[float], IntensityChange]] = {
            "blur_voxels": Blur,
            "noise_hu": lambda sigma_hu: Noise(sigma_hu / hu_range, noise_seed),
            "shift_hu": lambda amount_hu: Shift(amount_hu / hu_range),
            "contrast": Contrast,
            "gamma": Gamma,
        }
        return tuple(make(value) for name, make in makers.items() if (value := drawn[name]) is not None)


def _draw(chance: Chance, generator: np.random.Generator) -> float | None:
    """A value, or none; two draws either way, so that one option does not change what another draws."""
    happens, value = generator.random() < chance.probability, float(generator.uniform(*chance.range))
    return value if happens else None
