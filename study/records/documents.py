"""The JSON files of a results folder, as the report reads them. Unknown keys are ignored."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from renalnet.config import KIDNEY_TUMOR, LabelSet, label_set
from renalnet.errors import InputError, ResultsError
from renalnet.runtime.storage import read_json


class _Document(BaseModel):
    # The files hold more than the report reads, and files of later versions may hold more still.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class DataInfo(_Document):
    """The store of a study."""

    source: str = "not recorded"
    """Path of the store, or `synthetic phantoms`."""
    fingerprint: str = "not recorded"
    synthetic: bool = False
    """Whether the images were painted."""
    num_cases: dict[str, int] = {}
    """Number of cases by split."""
    roi_spacing_mm: tuple[float, ...] = ()
    """Voxel spacing of the ROIs (z, y, x)."""
    notes: tuple[str, ...] = ()
    """Warnings of the preparation."""


class Manifest(_Document):
    """`manifest.json`: configuration, data, versions, seeds and durations of a study."""

    study: str = "unnamed"
    """Name of the preset."""
    created: str = "not recorded"
    config: dict[str, Any] = {}
    config_fingerprint: str = "not recorded"
    # A study writes its manifest before it has opened or painted its data.
    data: DataInfo = DataInfo()
    versions: dict[str, str | None] = {}
    machine: dict[str, Any] = {}
    seeds: dict[str, Any] = {}
    durations_s: dict[str, float | None] = {}
    command: str = ""
    warnings: tuple[str, ...] = ()
    finished: bool = False

    @property
    def labels(self) -> LabelSet:
        """Labels of the study; the default set for a study of an earlier version. Raises ConfigError if damaged."""
        return label_set(self.config.get("labels", KIDNEY_TUMOR))


class Spread(_Document):
    """Mean and standard deviation of the objectives of a finalist's runs."""

    mean: float
    sd: float | None = None
    """Sample standard deviation; None for one run."""
    num: int
    """Number of runs."""


class FinalistEntry(_Document):
    """A finalist in `final/selection.json`."""

    members: tuple[str, ...] = ()
    """Names of the runs whose networks vote."""
    over_seeds: Spread | None = None
    """Spread over the runs that differ in their seed."""
    over_folds: Spread | None = None
    """Spread over the runs on folds; None where there are none."""


class Selection(_Document):
    """`final/selection.json`: the finalists among which the winner was chosen."""

    # The key in the file is older than the word finalist; results folders that exist have it.
    finalists: dict[str, FinalistEntry] = Field(default={}, alias="candidates")
    """Finalists by name; empty before the final stage."""
    num_folds: int = 0
    """Folds whose mean objective chose the winner; 0 where the validation cases chose it."""

    @property
    def is_repeated(self) -> bool:
        """Whether a finalist has more than one run."""
        return any(
            found.over_folds or (found.over_seeds and found.over_seeds.num > 1) for found in self.finalists.values()
        )

    def num_members(self, name: str) -> int:
        """Return the number of networks that vote for a finalist; 0 where the finalist is unknown."""
        return len(self.finalists[name].members) if name in self.finalists else 0


def read_manifest(folder: str, path: str) -> Manifest:
    """Read the manifest at `path` of a results folder.

    Raises:
        ResultsError: it is missing or damaged, or it is not the manifest of a study.
    """
    try:
        values = read_json(path)
        if isinstance(values, dict) and "study" not in values:
            raise ResultsError(
                f"{folder} is no results folder: its manifest.json names no study, as that of a store; name the folder "
                "study.run wrote"
            )
        return Manifest.model_validate(values)
    except (OSError, InputError) as error:
        raise ResultsError(
            f"{folder} is no results folder: no readable manifest.json in it; name the folder study.run wrote"
        ) from error
    except ValidationError as error:
        # The other errors often follow from the first one, and a message is one line.
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ResultsError(f"{path}: {key}: {first['msg']}; restore it or run the study again") from error


def read_selection(path: str) -> Selection:
    """Read the choice of the winner; without finalists where the file is missing.

    Raises:
        ResultsError: it is damaged.
    """
    try:
        return Selection.model_validate(read_json(path))
    except FileNotFoundError:
        # This branch comes first, because FileNotFoundError is an OSError too.
        return Selection()
    except (OSError, InputError, ValidationError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); run the study's final stage again") from error
