"""The losses by name, and their configuration.

A new loss is one module in `renalnet/train/losses`, and here an entry in `LOSSES` and its own fields in `LossConfig`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Final

from pydantic import Field

from renalnet.config.catalogue import name_in, names_of
from renalnet.config.section import Section
from renalnet.types import Triple

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
    """Loss of training. The default is weighted cross-entropy, the paper's Eq. (1)."""

    # Runs from before this field all used the cross-entropy.
    added: ClassVar[frozenset[str]] = frozenset({"name"})

    name: LossName = "cross_entropy"
    """A name in `LOSSES`."""
    # The paper's weight stays the default, although trials with 0.55 or more won every search on synthetic images
    # (results/LOG.md).
    background: float = Field(0.2, gt=0)
    """Weight of background in the cross-entropy."""
    kidney: float = Field(1.0, gt=0)
    """Weight of kidney in the cross-entropy."""
    tumor: float = Field(2.0, gt=0)
    """Weight of tumor in the cross-entropy."""

    @property
    def weights(self) -> Triple:
        """Weights in label order."""
        return self.background, self.kidney, self.tumor
