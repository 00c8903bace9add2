"""Post-processing of the vote: the operations that `InferenceConfig` declares, applied in its order.

The pipeline, `renalnet predict` and the final stage of a study all apply operations through this module. A new
operation is a function of the form of `Operation`, and its section in `renalnet.config.inference`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Final, TypeAlias

from renalnet.config import LabelSet
from renalnet.config.inference import OperationConfig
from renalnet.types import FloatArray, HuArray, LabelArray, Triple

NETWORK: Final = "network"
"""Stage of the vote, before any operation."""
FINAL: Final = "final"
"""Stage after all operations that are used."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an operation may read beside the labels; all arrays are those of one ROI."""

    probability: FloatArray
    """Class probabilities (C, z, y, x) of the vote, whose argmax is the vote."""
    image_hu: HuArray
    """CT numbers (z, y, x)."""
    spacing_mm: Triple
    """Voxel spacing (z, y, x)."""
    label_set: LabelSet
    """Meaning of the labels."""


Operation: TypeAlias = Callable[[LabelArray, Evidence, Any], LabelArray]
"""From labels (z, y, x), evidence and the operation's section to new labels; the arguments are not changed."""


def apply_operation(labels: LabelArray, evidence: Evidence, section: OperationConfig) -> LabelArray:
    """Return the labels (z, y, x) after one operation; those that were given where it is off."""
    if not section.is_on:
        return labels
    # By name, because the modules of the operations import `Evidence` from here.
    operation: Operation = resolve_name(section.function)
    return operation(labels, evidence, section)


def post_process(labels: LabelArray, evidence: Evidence, sections: Iterable[OperationConfig]) -> LabelArray:
    """Return the labels (z, y, x) after some operations, one after the other."""
    for section in sections:
        labels = apply_operation(labels, evidence, section)
    return labels


@dataclass(frozen=True)
class PostProcessing:
    """The operations of post-processing with their parameters, and which of them are used."""

    sections: Mapping[str, OperationConfig]
    """Parameters by the field of `InferenceConfig`, in the order of application."""
    used: frozenset[str]
    """Fields of the operations that are applied."""

    @property
    def last_stage(self) -> str:
        """Name of the stage whose labels are the final ones."""
        return stage_name(section.stage for name, section in self.sections.items() if name in self.used)

    @property
    def used_sections(self) -> dict[str, OperationConfig]:
        """Parameters as a model bundle states them: operations that are not used are switched off."""
        return {name: section.switched(on=name in self.used) for name, section in self.sections.items()}


def stage_name(names: Iterable[str]) -> str:
    """Return the name of the stage after some operations, from their names in the order of application."""
    return "_".join(names) or NETWORK


def stages_of(vote: LabelArray, evidence: Evidence, post_processing: PostProcessing) -> dict[str, LabelArray]:
    """Return the labels (z, y, x) by stage: after each combination of the operations, and the final ones.

    Operations that are not used are among the combinations, so that their effect can be seen.
    """
    stages: dict[tuple[str, ...], LabelArray] = {(): vote}
    for section in post_processing.sections.values():
        if section.is_on or section.is_always_measured:
            switched = section.switched(on=True)
            # The right side is built before the update, so an operation is applied to the earlier stages only.
            stages |= {
                (*names, section.stage): apply_operation(labels, evidence, switched) for names, labels in stages.items()
            }
    named = {stage_name(names): labels for names, labels in stages.items()}
    return {**named, FINAL: named[post_processing.last_stage]}
