"""The parts of the method: what is changed for each one, and what it is compared with.

Every part is one change of the reference, the configuration of the preset. Parts that change the training are compared
by the vote alone, because post-processing would hide a part of what a network got wrong. Parts of the inference use the
trained networks of the reference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from renalnet.config import KIDNEY_TUMOR, LossConfig, NetConfig, StitchConfig, TrainConfig
from renalnet.config.paper import PAPER_SHARES
from renalnet.config.presets import SHORT_RUN, prepare_preset, train_preset
from renalnet.config.section import Spacing, merge
from renalnet.errors import ConfigError, nearest
from renalnet.evaluation.part_effects import Choice
from study.bench.measuring.size import Size
from study.config.presets import study_preset
from study.config.space import kernel_name

REFERENCE: Final = "reference"
"""Name of the reference and of its trained networks."""
_OTHER_SLICES_MM: Final = {"anatomy": 3.0, "paper": 0.65}
"""Distance of slices of the other reading, by preset. Both readings of the paper have pixels of 0.65 mm: with slices of
1.0 mm, which are 1.54 times as long as the pixels, or of 0.65 mm. `anatomy` has voxels three times as large."""


@dataclass(frozen=True)
class Reading:
    """How a mask is made with trained networks."""

    combine: Literal["vote", "mean", "gaussian"] = "vote"
    """How overlapping sub-volumes are combined."""
    operations: tuple[str, ...] = ()
    """Operations of post-processing, by field of `InferenceConfig`, in the order of their application."""

    @property
    def name(self) -> str:
        """One word, such as `vote` or `vote-crf-components`."""
        return "-".join((self.combine, *self.operations))


VOTE: Final = Reading()
FULL: Final = Reading("vote", ("crf", "components"))
"""The paper's full inference."""


@dataclass(frozen=True)
class Part:
    """A change of the reference, and what its effect is measured by."""

    name: str
    choice: Choice
    """The choice of the method that it makes in another way."""
    title: str
    """Text for people."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Changes of the training configuration, by section; empty for parts of the inference."""
    spacing_mm: Spacing | None = None
    """Voxel spacing of the part's own store; None for the reference's."""
    reading: Reading = VOTE
    """How its masks are made."""
    against: Reading = VOTE
    """How the masks of the reference that it is compared with are made."""

    @property
    def run(self) -> str:
        """Name of the networks: its own, or those of the reference."""
        return self.name if self.changes else REFERENCE


def chosen_parts(size: Size) -> list[Part]:
    """Return the parts that the size names; all of them where it names none. Raises ConfigError for an unknown name."""
    known = {part.name: part for part in all_parts(size.parts_preset)}
    for name in size.parts_names:
        if name not in known:
            raise ConfigError(f"parts_names: unknown part '{name}'; {nearest(name, known)}")
    return [part for part in known.values() if not size.parts_names or part.name in size.parts_names]


def all_parts(preset: str) -> list[Part]:
    """Return every part that differs from a preset."""
    base = train_preset(preset)
    return [*_kernel_parts(preset, base.net), *_network_parts(base.net), *_weight_parts(), _slices(preset), *_INFERENCE]


def _kernel_parts(preset: str, net: NetConfig) -> Iterator[Part]:
    """Yield the network without the pyramid pooling module, and one with each other kernel set of the search space."""
    sets = dict.fromkeys([(), *study_preset(preset).space.kernel_sets])
    for kernels in sets:
        if kernels != net.ppm_kernels:
            title = f"pooling kernels {', '.join(map(str, kernels))}" if kernels else "no pyramid pooling module"
            changes = {"net": {"ppm_kernels": kernels}}
            yield Part(f"pyramid-{kernel_name(kernels)}", "pyramid pooling", title, changes)


def _network_parts(net: NetConfig) -> Iterator[Part]:
    yield Part("skip-plain", "gradually enhanced features", "plain skips", {"net": {"skip": "plain"}})
    undilated = (1,) * len(net.dilations)
    yield Part("dilation-1", "dilation", "dilation 1 everywhere", {"net": {"dilations": undilated}})
    # 13 residual blocks as in the paper, with the decoder's. Dilations and kernels are scaled to the larger or smaller
    # map, so that they reach as far in mm.
    once = {
        "encoder_blocks": (2, 10),
        "dilations": (1, 1, 1, 1, 2, 2, 4, 4, 8, 8),
        "ppm_kernels": tuple(2 * kernel for kernel in net.ppm_kernels),
    }
    yield Part("poolings-1", "number of poolings", "one pooling", {"net": once})
    halves = dict.fromkeys(max(1, kernel // 2) for kernel in net.ppm_kernels)
    thrice = {"encoder_blocks": (2, 3, 2, 3), "dilations": (1, 2, 2), "ppm_kernels": tuple(halves)}
    yield Part("poolings-3", "number of poolings", "three poolings", {"net": thrice})


def _weight_parts() -> Iterator[Part]:
    # In inverse proportion to the shares of the volume, with the kidney as the unit: 0.21, 1 and 6.97.
    balanced = {name: PAPER_SHARES["kidney"] / share for name, share in PAPER_SHARES.items()}
    yield Part("weights-balanced", "class weights", "weights inverse to the classes' shares", {"loss": balanced})
    equal = dict.fromkeys(PAPER_SHARES, 1.0)
    yield Part("weights-equal", "class weights", "equal weights", {"loss": equal})


def _slices(preset: str) -> Part:
    """Return the part with the other distance of slices, whose crops and sub-volumes span as many mm."""
    spacing = prepare_preset(preset).spacing_mm
    assert spacing is not None, "a preset has a grid"
    after = _OTHER_SLICES_MM[preset]
    base = train_preset(preset)

    def of_depth(shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return (max(1, round(shape[0] * spacing[0] / after)), *shape[1:])

    changes = {
        "patch": {"shape": of_depth(base.patch.shape)},
        "stitch": {"tile": of_depth(base.stitch.tile), "stride": of_depth(base.stitch.stride)},
    }
    title = f"slices of {after:g} mm instead of {spacing[0]:g} mm, pixels of {spacing[1]:g} mm"
    return Part("slices", "distance of slices", title, changes, (after, *spacing[1:]))


_INFERENCE: Final = (
    Part("stitch-mean", "stitching", "mean of the probabilities", reading=Reading("mean")),
    Part("stitch-gaussian", "stitching", "mean weighted by a Gaussian", reading=Reading("gaussian")),
    Part("crf-off", "dense CRF", "no dense CRF", reading=Reading("vote", ("components",)), against=FULL),
    Part("connectivity-off", "connectivity", "no connectivity", reading=Reading("vote", ("crf",)), against=FULL),
)


def readings_of(run: str, parts: Sequence[Part]) -> list[Reading]:
    """Return how masks are made with the networks of a run, each way once."""
    own = [part.reading for part in parts if part.run == run]
    against = [part.against for part in parts] if run == REFERENCE else []
    return list(dict.fromkeys([*against, *own]))


def base_config(size: Size) -> TrainConfig:
    """Return the training configuration of the reference: the preset with the paper's class weights, but shorter."""
    epochs = size.parts_epochs
    # At the same shares of the run as in the paper, 3, 5 and 7 of 9.
    milestones = sorted({max(1, round(epochs * milestone / 9)) for milestone in (3, 5, 7)})
    changes = {
        # Weights of the preset's own choice would be a part that is not named.
        "loss": LossConfig().model_dump() | {label.name: label.loss_weight for label in KIDNEY_TUMOR.labels},
        "optim": {**SHORT_RUN.model_dump(), "milestones": tuple(milestones)},
        "epochs": epochs,
        "steps_per_epoch": size.parts_steps,
    }
    return merge(train_preset(size.parts_preset), changes, "parts")


def config_of(part: Part | None, seed: int, size: Size) -> TrainConfig:
    """Return the training configuration of a part, or of the reference for None."""
    changes = dict(part.changes) if part else {}
    return merge(base_config(size), {**changes, "seed": seed}, part.name if part else REFERENCE)


def stitch_of(config: TrainConfig, reading: Reading) -> StitchConfig:
    """Return the sub-volumes of the final inference with networks of `config`."""
    tile = config.stitch.tile
    # A quarter along z, as in the presets of a study, so that inner voxels get four votes.
    stride = (max(1, tile[0] // 4), *config.stitch.stride[1:])
    return config.stitch.model_copy(update={"stride": stride, "combine": reading.combine})
