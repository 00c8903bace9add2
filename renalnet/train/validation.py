"""Validation in the loop, by the same stitched inference as in the final stage."""

import math

from renalnet.config import StitchConfig
from renalnet.data.batches.decoded_cases import DecodedCases
from renalnet.data.store.manifest import Normalisation
from renalnet.errors import InputError
from renalnet.evaluation.overlap import dice
from renalnet.inference.segmentation import segment
from renalnet.inference.stitching import sub_volume_starts
from renalnet.nets import SegmentationNet
from renalnet.runtime.device import Device
from renalnet.types import KIDNEY, TUMOR


class Validation:
    """The validation patients that are looked at each epoch, always the same first ones."""

    def __init__(
        self, patients: DecodedCases, normalisation: Normalisation, config: StitchConfig, max_cases: int
    ) -> None:
        """`max_cases` patients at most; 0 means all."""
        self._patients, self._normalisation, self._config = patients, normalisation, config
        self.num_cases = min(max_cases or len(patients), len(patients))

    @property
    def num_sub_volumes(self) -> int:
        """Sub-volumes that go through the network each epoch."""
        shapes = self._patients.shapes[: self.num_cases].tolist()
        return sum(_num_sub_volumes(shape, self._config) for shape in shapes)

    def score(self, number: int, net: SegmentationNet, device: Device) -> tuple[float, float] | None:
        """Dice of kidney and tumor of a patient; none where the network's probabilities are not finite.

        The next patient is decoded meanwhile.
        """
        self._patients.prefetch(range(number, min(number + 2, self.num_cases)))
        patient = self._patients[number]
        try:
            labels = segment([net], patient.image, self._normalisation, self._config, device).labels
        except InputError:  # the image is finite: whole numbers
            return None
        return dice(patient.label == KIDNEY, labels == KIDNEY), dice(patient.label == TUMOR, labels == TUMOR)

    def __str__(self) -> str:
        """What it costs, in words."""
        tile = "×".join(map(str, self._config.tile))
        return f"{self.num_cases} of {len(self._patients)} patients, {self.num_sub_volumes} sub-volumes of {tile}"


def _num_sub_volumes(shape: list[int], config: StitchConfig) -> int:
    axes = zip(shape, config.tile, config.stride, strict=True)
    return math.prod(len(sub_volume_starts(length, tile, step)) for length, tile, step in axes)
