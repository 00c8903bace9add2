"""Validation during training, by the same stitched inference as in the final stage."""

from renalnet.config import LabelSet, Normalisation, StitchConfig
from renalnet.data.batches.decoded_cases import DecodedCases
from renalnet.errors import InputError
from renalnet.evaluation.overlap import dice
from renalnet.inference.segmentation import segment
from renalnet.inference.stitching import num_sub_volumes
from renalnet.nets import SegmentationNet
from renalnet.runtime.device import Device


class Validation:
    """The validation cases that are scored in each epoch, always the same first ones."""

    def __init__(
        self,
        cases: DecodedCases,
        normalisation: Normalisation,
        labels: LabelSet,
        config: StitchConfig,
        max_cases: int,
    ) -> None:
        """Take the first `max_cases` of `cases`; 0 means all."""
        self._cases = cases
        self._normalisation = normalisation
        self._labels = labels
        self._config = config
        self.num_cases = min(max_cases or len(cases), len(cases))

    @property
    def num_sub_volumes(self) -> int:
        """Number of sub-volumes that go through the network in each epoch."""
        shapes = self._cases.shapes[: self.num_cases].tolist()
        return sum(num_sub_volumes(shape, self._config) for shape in shapes)

    def score(self, number: int, net: SegmentationNet, device: Device) -> tuple[float, ...] | None:
        """Return the Dice of each label of a case, by value; None if the network's probabilities are not finite.

        The next case is decoded in the meantime.
        """
        self._cases.prefetch(range(number, min(number + 2, self.num_cases)))
        case = self._cases[number]
        try:
            predicted = segment([net], case.image, self._normalisation, self._config, device).labels
        except InputError:  # raised for values that are not finite; the image has whole numbers only
            return None
        return tuple(dice(case.label == label.value, predicted == label.value) for label in self._labels.labels)

    def __str__(self) -> str:
        """Return the amount of validation for a message."""
        tile = "×".join(map(str, self._config.tile))
        return f"{self.num_cases} of {len(self._cases)} cases, {self.num_sub_volumes} sub-volumes of {tile}"
