"""The arrays of test cases that the report shows, and the predicted masks on the grid of the ROI."""

from collections.abc import Sequence

import numpy as np

from renalnet.data.store.reader import Store
from renalnet.runtime import storage
from renalnet.types import LabelArray
from study.finalists.finalists import Finalist
from study.records.files import read_named_arrays
from study.records.results import Results


def read_labels(results: Results, finalist: str, case: str) -> LabelArray:
    """Read the final label map of a finalist on the grid of the ROI (z, y, x). Raises ResultsError if damaged."""
    labels: LabelArray = read_named_arrays(results.roi_labels_path(finalist, case), ("labels",))["labels"]
    return labels


def write_view(results: Results, store: Store, case: str, shown: Sequence[Finalist]) -> None:
    """Write image, truth and predictions of a test case for the report.

    Args:
        results: the results folder.
        store: the store, whose HU range of the normalisation becomes 0 to 255.
        case: name of the test case.
        shown: finalists whose final masks are shown; at most one for each network.
    """
    roi = store.read(case)
    low = store.normalisation.hu_min
    high = store.normalisation.hu_max
    windowed = ((np.clip(roi.image.astype(np.float32), low, high) - low) * (255 / (high - low))).astype(np.uint8)
    labels = {f"pred_{finalist.network}": read_labels(results, finalist.name, case) for finalist in shown}
    arrays = {"image": windowed, "truth": roi.label, "spacing_mm": np.array(roi.spacing_mm), **labels}
    storage.write_arrays(results.view_path(case), arrays)
