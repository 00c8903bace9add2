"""All tables of a results folder at one moment, and the arrays of test cases for display."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from renalnet.config import LabelSet
from renalnet.errors import ResultsError
from renalnet.runtime.storage import list_names
from renalnet.types import LabelArray
from study.records.documents import Manifest, Selection
from study.records.files import read_named_arrays
from study.records.results import Results
from study.records.tables import (
    Effect,
    Epoch,
    Importance,
    InteractionCell,
    Measurement,
    PlanningSheet,
    Quality,
    Trial,
)


@dataclass(frozen=True)
class ResultsContent:
    """The rows of a results folder. What a running study has not written yet is None or empty."""

    folder: Results
    manifest: Manifest
    trials: list[Trial] | None
    """Trials of the search."""
    repeats: list[Trial]
    """Repeats of finalists, over seeds and on folds."""
    epochs: list[Epoch] | None
    """Epochs of the search's trials."""
    selection: Selection
    measurements: list[Measurement] | None
    view_cases: list[str]
    """Test cases with arrays for display."""
    importances: list[Importance]
    """Empty before the search has ended."""
    qualities: list[Quality]
    """Empty before the final stage has ended, or where validation cases were too few."""
    plans: list[PlanningSheet]
    """Empty before the final stage has ended."""
    effects: list[Effect] = field(default_factory=list)
    """Empty before the search has ended, or without enough trials."""
    interactions: list[InteractionCell] = field(default_factory=list)
    """Likewise, and where fewer than two parameters are important."""
    earlier_choices: int = 0
    """Number of earlier choices of the winner, before the study was extended; each had read the test cases."""
    added_labels: Mapping[str, Mapping[str, LabelArray]] = field(default_factory=dict)
    """Masks of other programs on the grid of the ROI, by the program's name and the case."""

    @property
    def labels(self) -> LabelSet:
        """Labels of the study."""
        return self.manifest.labels

    @property
    def path(self) -> str:
        """Local path or URI of the folder."""
        return self.folder.folder


@dataclass(frozen=True)
class View:
    """ROI of a test case for display. All arrays are (z, y, x)."""

    case: str
    image: LabelArray
    """Image, windowed to 0-255."""
    truth: LabelArray
    predictions: Mapping[str, LabelArray]
    """Predicted label map by network or program."""
    spacing_mm: tuple[float, float, float]


def load_results(results: Results) -> ResultsContent:
    """Read all tables of a results folder.

    Raises:
        ResultsError: it has no manifest, or a file in it is damaged or lacks columns.
    """
    trials = results.trials()
    epochs = results.epochs()
    views = list_names(results.views_folder)
    return ResultsContent(
        folder=results,
        manifest=results.manifest(),
        trials=None if trials is None else [trial for trial in trials if not trial.repeat_of],
        repeats=[trial for trial in trials or [] if trial.repeat_of],
        epochs=None if epochs is None else [epoch for epoch in epochs if not epoch.repeat_of],
        selection=results.selection(),
        measurements=results.measurements(),
        # A process that was killed while it wrote may have left a temporary file beside the finished ones.
        view_cases=[name.removesuffix(".npz") for name in views if name.endswith(".npz")],
        importances=results.importances(),
        effects=results.effects(),
        interactions=results.interactions(),
        qualities=results.quality(),
        plans=results.planning(),
        earlier_choices=len(results.earlier_selections()),
    )


def load_view(content: ResultsContent, case: str) -> View:
    """Read the arrays of a test case for display, with the masks of other programs.

    Raises:
        ResultsError: they are damaged or differ in shape.
    """
    path = content.folder.view_path(case)
    view = _read_view(path, case)
    view = replace(view, predictions={**view.predictions, **_added(content, case)})
    # The figures lay these arrays over each other, voxel by voxel.
    shapes = {array.shape for array in (view.image, view.truth, *view.predictions.values())}
    if len(shapes) != 1 or view.image.ndim != 3:
        raise ResultsError(
            f"{path} holds arrays of shapes {sorted(shapes)}, which must be one shape (z, y, x); run the study's "
            "final stage again"
        )
    return view


def _read_view(path: str, case: str) -> View:
    try:
        return _view(case, read_named_arrays(path, ("image", "truth", "spacing_mm")))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); run the study's final stage again") from error


def _added(content: ResultsContent, case: str) -> dict[str, LabelArray]:
    return {name: labels[case] for name, labels in content.added_labels.items() if case in labels}


def _view(case: str, arrays: Mapping[str, Any]) -> View:
    z, y, x = (float(value) for value in arrays["spacing_mm"])
    predictions = {
        name.removeprefix("pred_"): array.astype(np.uint8) for name, array in arrays.items() if name.startswith("pred_")
    }
    return View(case, arrays["image"].astype(np.uint8), arrays["truth"].astype(np.uint8), predictions, (z, y, x))
