"""What the evidence says, computed from the report of its study, its store and the label maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from renalnet.data.store.reader import Store
from renalnet.evaluation.intensity_rules import fit_inside_rule_to_counts, hu_counts
from renalnet.types import SPLITS
from study.evidence.generalisation import Optimism, Rank, SubsetChoice, optimisms_of, ranks_of, subset_choices
from study.evidence.groups import (
    TOGETHER,
    GroupResult,
    contrast_groups,
    contrasts_hu,
    group_results,
    volume_groups,
)
from study.evidence.regions import RegionErrors, region_errors, summed
from study.records.content import load_view
from study.report.analysis.contents import Report
from study.report.analysis.summary import final_test_rows


@dataclass(frozen=True)
class Annotators:
    """A published figure of how well people agree, which bounds what a method can reach."""

    measure: str
    kidney: str
    """Empty where it was not published."""
    tumor: str
    readers: str
    source: str


ANNOTATORS: Final = (
    Annotators(
        measure="mean Dice",
        kidney="0.983",
        tumor="0.923",
        readers="inter-annotator performance on KiTS19",
        source="Heller et al., The state of the art in kidney and kidney tumor segmentation in contrast-enhanced CT "
        "imaging: results of the KiTS19 challenge, 2019, abstract",
    ),
    Annotators(
        measure="median Dice",
        kidney="",
        tumor="0.86 to 0.90",
        readers="a radiologist, a urologist and a network on 40 masses below 4 cm",
        source="Automated vs. manual segmentation for small renal mass imaging, doi:10.5489/cuaj.9476, abstract",
    ),
    Annotators(
        measure="volume overlap variability",
        kidney="8.8 %",
        tumor="",
        readers="two of eleven radiologists on contours in CT",
        source="Joskowicz et al., Inter-observer variability of manual contour delineation of structures in CT, "
        "European Radiology 29, 2019, doi:10.1007/s00330-018-5695-5, abstract",
    ),
)
"""The ceiling beside our numbers. Real scans are harder to annotate than painted ones, which follow their labels."""


@dataclass(frozen=True)
class Evidence:
    """Everything that the tables and figures of the evidence show."""

    report: Report
    collections: list[GroupResult]
    """By collection of label maps, then of all test cases."""
    volumes: list[GroupResult]
    """By volume of the tumor."""
    contrasts: list[GroupResult]
    """By thirds of the contrast between tumor and kidney."""
    regions: dict[tuple[str, str], RegionErrors]
    """Errors over all test cases by network or program and region."""
    ranks: list[Rank]
    optimisms: list[Optimism]
    choices: list[SubsetChoice]
    inside_rule: dict[str, float]
    """Mean tumor Dice of the best single threshold inside the true region, chosen in hindsight, by split."""


def evidence_of(report: Report, store: Store, collections: Mapping[str, Sequence[str]]) -> Evidence:
    """Return the evidence of a finished study.

    Args:
        report: the report of the study, with other programs where given.
        store: the store of the study.
        collections: test cases by collection of label maps.
    """
    content = report.content
    final = final_test_rows(content)
    rows = content.measurements or []
    together = {TOGETHER: store.cases("test")}
    # One collection is all cases, so it would be the same row twice.
    groups = {**collections, **together} if len(collections) > 1 else together
    return Evidence(
        report=report,
        collections=group_results(final, groups, report.settings),
        volumes=group_results(final, volume_groups(final), report.settings),
        contrasts=group_results(final, contrast_groups(contrasts_hu(store)), report.settings),
        regions=_regions(report),
        ranks=ranks_of(rows, content.labels),
        optimisms=optimisms_of(rows, report.settings),
        choices=subset_choices(rows, content.labels),
        inside_rule=inside_rule(store),
    )


def _regions(report: Report) -> dict[tuple[str, str], RegionErrors]:
    content = report.content
    # A generator, so that only one view is in memory.
    views = (load_view(content, case) for case in content.view_cases)
    return summed(region_errors(view.truth, view.predictions, view.spacing_mm, content.labels) for view in views)


def inside_rule(store: Store) -> dict[str, float]:
    """Return the tumor Dice of the best threshold inside the true region on the cases of each split."""
    found = dict[str, float]()
    for split in SPLITS:
        rois = map(store.read, store.cases(split))
        counts = [hu_counts(roi.image, roi.label, store.labels) for roi in rois]
        found[split] = fit_inside_rule_to_counts(counts).tumor_dice
    return found
