"""The decoded ROIs that a training run needs: small enough to share in one copy by all trials on a node."""

from collections.abc import Sequence
from dataclasses import dataclass

from renalnet.data.manifest import Normalisation
from renalnet.data.store import Roi, Store


@dataclass(frozen=True)
class Cohort:
    """Training and validation patients; never test patients."""

    train: Sequence[Roi]
    validation: Sequence[Roi]
    normalisation: Normalisation
    fingerprint: str
    """Changes when any voxel of the store changes."""


def load_cohort(store: Store) -> Cohort:
    """Decode the training and validation patients of a store."""
    return Cohort(store.read_split("train"), store.read_split("validation"), store.normalisation, store.fingerprint)
