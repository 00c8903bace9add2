"""The files of a results folder as typed rows. What a running study has not written yet is None, no error."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from renalnet.errors import InputError, ResultsError
from renalnet.runtime.storage import join, list_names, read_bytes, read_json
from renalnet.types import LabelArray


class DataInfo(BaseModel):
    """Where the patients of a study come from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str = "not recorded"
    fingerprint: str = "not recorded"
    synthetic: bool = False
    num_cases: dict[str, int] = {}
    roi_spacing_mm: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


class Manifest(BaseModel):
    """`manifest.json`; unknown keys are left to newer versions of the report."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    study: str = "unnamed"
    created: str = "not recorded"
    config: dict[str, Any] = {}
    config_fingerprint: str = "not recorded"
    data: DataInfo = DataInfo()
    versions: dict[str, str | None] = {}
    machine: dict[str, Any] = {}
    seeds: dict[str, Any] = {}
    durations_s: dict[str, float | None] = {}
    command: str = ""
    warnings: tuple[str, ...] = ()
    finished: bool = False


class Spread(BaseModel):
    """Objectives of a configuration's runs; one run has no sd."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    mean: float
    sd: float | None = None
    num: int


class Finalist(BaseModel):
    """What `final/selection.json` says of a candidate's runs beside the validation patients' Dice."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    members: tuple[str, ...] = ()
    over_seeds: Spread | None = None
    over_folds: Spread | None = None


class Selection(BaseModel):
    """`final/selection.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    candidates: dict[str, Finalist] = {}

    @property
    def is_repeated(self) -> bool:
        """Whether a candidate has been run more than once."""
        return any(
            found.over_folds or (found.over_seeds and found.over_seeds.num > 1) for found in self.candidates.values()
        )

    def num_members(self, name: str) -> int:
        """Networks that vote for a candidate; 0 where it is not known."""
        return len(self.candidates[name].members) if name in self.candidates else 0


@dataclass(frozen=True)
class Trial:
    """A trial of the study; a field with a default may be null or absent in the file."""

    trial: int
    name: str
    network: str
    state: str
    objective: float | None = None
    dice_kidney: float | None = None
    dice_tumor: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    planned_epochs: int = 0
    seconds: float = 0.0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    reason: str = ""
    is_paper_point: bool = False
    ppm_kernels: str = ""
    weight_tumor: float | None = None
    weight_kidney: float | None = None
    weight_background: float | None = None
    milestones: str = ""
    config: str = ""
    repeat_of: str = ""
    """The finalist that is run again here; empty for a trial of the search."""
    seed: int | None = None
    fold: int | None = None


@dataclass(frozen=True)
class Epoch:
    """What a trial reported after an epoch, counted from 1; Dice over the validation patients."""

    trial: int
    name: str
    network: str
    epoch: int
    loss: float | None = None
    dice_kidney: float | None = None
    dice_tumor: float | None = None
    objective: float | None = None
    learning_rate: float | None = None
    seconds: float = 0.0
    repeat_of: str = ""


@dataclass(frozen=True)
class Measurement:
    """One label of one patient after one stage of inference with one checkpoint."""

    case: str
    split: str
    network: str
    role: str
    stage: str
    label: str
    dice: float
    surface_distance_mm: float
    surface_distance_px: float
    hd95_mm: float
    surface_dice: float
    volume_truth_ml: float
    volume_pred_ml: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    truth_empty: bool
    pred_empty: bool
    checkpoint: str = ""
    found: bool | None = None


@dataclass(frozen=True)
class Importance:
    """How much a searched value decides of the objective; those of a network sum to 1."""

    network: str
    parameter: str
    evaluator: str
    importance: float
    num_trials: int


@dataclass(frozen=True)
class Quality:
    """What the signs of the winner's mask of a patient let expect of its tumor Dice."""

    case: str
    split: str
    expected_dice: float
    """Of a validation patient by all the others."""
    expected_error: float
    """Mean absolute error over the validation patients."""
    num_known: int
    """Validation patients."""
    entropy_bits: float
    expected_dice_tumor: float
    agreement: float | None = None
    """With the other finalists, where there are some."""


@dataclass(frozen=True)
class PlanningSheet:
    """The planning sheet of a kidney, by the truth or by the winner's mask; what has no value is None."""

    case: str
    source: str
    side: str
    kidney_ml: float
    kidney_length_mm: float
    tumor_ml: float
    num_tumors: int
    remaining_ml: float
    margin_mm: float
    remaining_share: float | None = None
    diameter_3d_mm: float | None = None
    diameter_axial_mm: float | None = None
    tumor_surface_cm2: float | None = None
    contact_cm2: float | None = None
    exophytic_share: float | None = None
    beyond_upper_share: float | None = None
    beyond_lower_share: float | None = None
    to_upper_line_mm: float | None = None
    to_lower_line_mm: float | None = None
    behind_mm: float | None = None
    face: str | None = None
    c_index: float | None = None
    renal_r: int | None = None
    renal_e: int | None = None
    renal_l: int | None = None
    spread: str = "{}"
    """JSON: least and largest of each measure over the masks of the finalists of the winner's network."""

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Of each measure that spreads."""
        return {name: (low, high) for name, (low, high) in json.loads(self.spread).items()}


@dataclass(frozen=True)
class View:
    """A test patient's ROI for display: all arrays (z, y, x); the image is windowed to 0-255."""

    case: str
    image: LabelArray
    truth: LabelArray
    predictions: Mapping[str, LabelArray]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Results:
    """All rows of a results folder; None stands for a file that is not there (yet)."""

    path: str
    manifest: Manifest
    trials: list[Trial] | None
    """Of the search."""
    repeats: list[Trial]
    """Finalists run again, over seeds and on folds."""
    epochs: list[Epoch] | None
    """Of the search's trials."""
    selection: Selection
    measurements: list[Measurement] | None
    view_cases: list[str]
    importances: list[Importance]
    """None before the search has ended."""
    qualities: list[Quality]
    """None before the final stage has ended, or where validation patients were too few."""
    plans: list[PlanningSheet]
    """None before the final stage has ended."""
    added_labels: Mapping[str, Mapping[str, LabelArray]] = field(default_factory=dict)
    """Of other programs on the grid of the ROI, by the program's name and the case."""


Row = TypeVar("Row", Trial, Epoch, Measurement, Importance, Quality, PlanningSheet)


def load_results(path: str | Path) -> Results:
    """Read a results folder (local path or URI).

    Raises:
        ResultsError: it has no manifest, or a file in it is damaged or lacks columns.
    """
    views = list_names(join(path, "final", "views"))
    trials, epochs = read_rows(join(path, "trials.parquet"), Trial), read_rows(join(path, "curves.parquet"), Epoch)
    return Results(
        path=str(path),
        manifest=read_manifest(path),
        trials=None if trials is None else [trial for trial in trials if not trial.repeat_of],
        repeats=[trial for trial in trials or [] if trial.repeat_of],
        epochs=None if epochs is None else [epoch for epoch in epochs if not epoch.repeat_of],
        selection=read_selection(path),
        measurements=read_rows(join(path, "final", "metrics.parquet"), Measurement),
        view_cases=[name.removesuffix(".npz") for name in views if name.endswith(".npz")],
        importances=read_rows(join(path, "importances.parquet"), Importance) or [],
        qualities=read_rows(join(path, "final", "quality.parquet"), Quality) or [],
        plans=read_rows(join(path, "final", "plan.parquet"), PlanningSheet) or [],
    )


def load_view(results: Results, case: str) -> View:
    """The display arrays of a test patient. Raises ResultsError where they are damaged or differ in shape."""
    path = join(results.path, "final", "views", f"{case}.npz")
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
            content = {name: np.asarray(arrays[name]) for name in arrays.files}
        view = _view(case, content)
    except (OSError, ValueError, KeyError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); run the study's final stage again") from error
    view = replace(view, predictions={**view.predictions, **_added(results, case)})
    shapes = {array.shape for array in (view.image, view.truth, *view.predictions.values())}
    if len(shapes) != 1 or view.image.ndim != 3:
        raise ResultsError(f"{path} holds arrays of shapes {sorted(shapes)}, which must be one shape (z, y, x)")
    return view


def _added(results: Results, case: str) -> dict[str, LabelArray]:
    return {name: labels[case] for name, labels in results.added_labels.items() if case in labels}


def _view(case: str, content: Mapping[str, Any]) -> View:
    z, y, x = (float(value) for value in content["spacing_mm"])
    predictions = {
        name.removeprefix("pred_"): array.astype(np.uint8)
        for name, array in content.items()
        if name.startswith("pred_")
    }
    return View(case, content["image"].astype(np.uint8), content["truth"].astype(np.uint8), predictions, (z, y, x))


def read_manifest(path: str | Path) -> Manifest:
    """Read the manifest of a results folder. Raises ResultsError."""
    try:
        return Manifest.model_validate(read_json(join(path, "manifest.json")))
    except (OSError, InputError) as error:
        raise ResultsError(
            f"{path} is no results folder: no readable manifest.json in it; name the folder study.run wrote"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ResultsError(f"{path}/manifest.json: {key}: {first['msg']}; restore it or run the study again") from error


def read_selection(path: str | Path) -> Selection:
    """Read the choice of the winner. Raises ResultsError where it is damaged."""
    where = join(path, "final", "selection.json")
    try:
        return Selection.model_validate(read_json(where))
    except FileNotFoundError:
        return Selection()
    except (OSError, InputError, ValidationError) as error:
        raise ResultsError(f"{where} cannot be read ({error}); run the study's final stage again") from error


def read_rows(path: str, row_type: type[Row]) -> list[Row] | None:
    """Read a Parquet file as typed rows; None where it is missing. Raises ResultsError."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return None
    try:
        records = pq.read_table(pa.BufferReader(content)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ResultsError(f"{path} is not readable Parquet ({error}); run the study's command again") from error
    return [row_of(path, row_type, record) for record in records]


def row_of(path: str, row_type: type[Row], record: Mapping[str, Any]) -> Row:
    """A record of a file as a typed row; what the type does not know is left out. Raises ResultsError."""
    present = {name: value for name, value in record.items() if not _is_null(value)}
    missing = [each.name for each in fields(row_type) if each.name not in present and each.default is MISSING]
    if missing:
        raise ResultsError(f"{path} has no value for {', '.join(missing)} in a row; was it written by another version?")
    return row_type(**{each.name: present[each.name] for each in fields(row_type) if each.name in present})


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
