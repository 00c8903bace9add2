"""The losses by name, and their configuration.

A new loss is one module in `renalnet/train/losses`, and here an entry in `LOSSES` and its own fields in `LossConfig`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, PositiveFloat

from renalnet.config.catalogue import name_in, names_of
from renalnet.config.labels import LabelSet
from renalnet.config.section import Section

LOSSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Weighted.
        "cross_entropy": "renalnet.train.losses.cross_entropy:cross_entropy_of",
        # The sum of soft Dice loss and weighted cross-entropy.
        "dice_ce": "renalnet.train.losses.dice_ce:dice_ce_of",
    }
)
"""Every loss as `module:function`, a `renalnet.train.losses.supervision.BatchLoss`."""

LossName = Annotated[str, name_in(LOSSES, "loss"), names_of(LOSSES)]
"""A name in `LOSSES`; configurations validate it."""


class LossConfig(Section):
    """Loss of training. The default is weighted cross-entropy, the paper's Eq. (1).

    A further field, named as a label, is the label's weight in the cross-entropy, such as `tumor`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PositiveFloat]

    # Runs from before this field all used the cross-entropy.
    added: ClassVar[frozenset[str]] = frozenset({"name"})

    name: LossName = "cross_entropy"
    """A name in `LOSSES`."""
    # The paper's weight stays the default, although trials with 0.55 or more won every search on synthetic images
    # (results/LOG.md).
    background: float = Field(0.2, gt=0)
    """Weight of background in the cross-entropy."""

    def weights(self, labels: LabelSet) -> tuple[float, ...]:
        """Return the weight of each class, by value; a label without a field of its own has its `loss_weight`."""
        given = self.__pydantic_extra__
        return self.background, *(given.get(label.name, label.loss_weight) for label in labels.labels)
