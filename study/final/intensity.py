"""The two intensity rules, which segment without a network and show how much a network adds."""

from collections.abc import Callable
from dataclasses import asdict

from renalnet.config import LabelSet
from renalnet.data.store.reader import Store
from renalnet.evaluation.intensity_rules import THRESHOLD_INSIDE, THRESHOLD_ROI, fit_inside_rule, fit_window_rule
from renalnet.evaluation.table import measure
from renalnet.inference.post_processing import FINAL
from renalnet.types import HuArray, LabelArray
from study.records.tables import RULE, Measurement


def intensity_measurements(store: Store) -> list[Measurement]:
    """Return measurements of the rules on the test cases, fitted on the training and validation cases."""
    # Both rules are fitted to these cases, so the store is read once for both.
    rois = [roi for split in ("train", "validation") for roi in store.read_split(split)]
    known = [(roi.image, roi.label) for roi in rois]
    rules: dict[str, Callable[[HuArray, LabelArray, LabelSet], LabelArray]] = {
        THRESHOLD_ROI: fit_window_rule(known, store.labels).apply,
        THRESHOLD_INSIDE: fit_inside_rule(known, store.labels).apply,
    }
    return [
        Measurement(case=roi.case, split="test", network=name, stage=FINAL, role=RULE, **asdict(measures))
        for roi in store.read_split("test")
        for name, apply in rules.items()
        # The rule `threshold_inside` gets the truth, because it tells tumor from kidney within the true outline.
        for measures in measure(roi.label, apply(roi.image, roi.label, store.labels), roi.spacing_mm, store.labels)
    ]
