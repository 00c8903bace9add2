"""A results folder: the path of every file in it, and its tables as typed rows."""

import re
from dataclasses import dataclass
from typing import Final

from renalnet.runtime.storage import join, list_names
from study.records.documents import Manifest, Selection, read_manifest, read_selection
from study.records.parquet import find_rows
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

_EARLIER: Final = re.compile(r"selection-(\d+)\.json")
MANIFEST: Final = "manifest.json"
JOURNAL: Final = "optuna.journal"
TRIALS_TABLE: Final = "trials.parquet"
CURVES_TABLE: Final = "curves.parquet"
IMPORTANCES_TABLE: Final = "importances.parquet"
EFFECTS_TABLE: Final = "effects.parquet"
INTERACTIONS_TABLE: Final = "interactions.parquet"


@dataclass(frozen=True)
class Results:
    """A results folder, on any path that `renalnet.runtime.storage` knows.

    A name that ends in `_path` or `_folder` is a path below the folder, whether or not something exists there. The
    other methods read a file. `trials`, `epochs` and `measurements` give None for a table that the study has not
    written, because the report tells it from an empty one; the others are then empty.
    """

    folder: str
    """Local path or URI."""

    def __str__(self) -> str:
        """Return the folder, as messages name it."""
        return self.folder

    def path(self, *parts: str) -> str:
        """Return a path below the folder."""
        return join(self.folder, *parts)

    @property
    def manifest_path(self) -> str:
        """The study's manifest."""
        return self.path(MANIFEST)

    @property
    def lease_path(self) -> str:
        """The lease of the driver that writes the folder; hidden, so that a folder with nothing else is empty."""
        # `StudyManifest` ignores hidden files when it checks whether a folder is empty.
        return self.path(".lease")

    @property
    def journal_path(self) -> str:
        """Optuna's journal."""
        return self.path(JOURNAL)

    @property
    def store_folder(self) -> str:
        """The store of the synthetic cohort, where the study made one."""
        return self.path("store")

    @property
    def cohort_folder(self) -> str:
        """The scans of the synthetic cohort, where the study painted one here."""
        return self.path("cohort")

    @property
    def tune_folder(self) -> str:
        """The experiment state and the TensorBoard files of Ray Tune."""
        return self.path("tune")

    @property
    def best_folder(self) -> str:
        """The winner's model bundle."""
        return self.path("best")

    @property
    def page_path(self) -> str:
        """The report."""
        return self.path("report.html")

    def table_path(self, name: str) -> str:
        """Return the path of one of the report's tables."""
        return self.path("tables", f"{name}.csv")

    def figure_path(self, name: str, kind: str) -> str:
        """Return the path of one of the report's figures; `kind` is `png` or `svg`."""
        return self.path("figures", f"{name}.{kind}")

    @property
    def trials_path(self) -> str:
        """The table of trials."""
        return self.path(TRIALS_TABLE)

    @property
    def curves_path(self) -> str:
        """The table of epochs."""
        return self.path(CURVES_TABLE)

    @property
    def importances_path(self) -> str:
        """The table of importances."""
        return self.path(IMPORTANCES_TABLE)

    @property
    def effects_path(self) -> str:
        """The table of marginal effects."""
        return self.path(EFFECTS_TABLE)

    @property
    def interactions_path(self) -> str:
        """The table of interactions."""
        return self.path(INTERACTIONS_TABLE)

    @property
    def trials_folder(self) -> str:
        """The parent of the trials' folders."""
        return self.path("trials")

    def trial_folder(self, name: str) -> str:
        """Return the folder with a trial's record, log, checkpoints and best model."""
        return self.path("trials", name)

    def trial_record_path(self, name: str) -> str:
        """Return the path of a trial's record."""
        return self.path("trials", name, "trial.json")

    @property
    def final_folder(self) -> str:
        """All files of the final stage."""
        return self.path("final")

    @property
    def selection_path(self) -> str:
        """The choice of the winner."""
        return self.path("final", "selection.json")

    def earlier_selection_path(self, name: str) -> str:
        """Return the path of an earlier choice, such as `selection-1.json`."""
        return self.path("final", name)

    def earlier_selections(self) -> list[str]:
        """Return the file names of earlier choices of the winner, oldest first: each had read the test cases."""
        found = filter(_EARLIER.fullmatch, list_names(self.final_folder))
        # By number, because as text selection-10 would come before selection-2.
        return sorted(found, key=lambda name: int(name.removesuffix(".json").split("-")[1]))

    @property
    def metrics_path(self) -> str:
        """The table of measurements."""
        return self.path("final", "metrics.parquet")

    @property
    def post_processings_path(self) -> str:
        """The post-processing of every finalist."""
        # The name of the file is older than the term; the folders of earlier versions have it.
        return self.path("final", "steps.json")

    @property
    def quality_path(self) -> str:
        """The table of expected tumor Dice."""
        return self.path("final", "quality.parquet")

    @property
    def planning_path(self) -> str:
        """The table of planning sheets."""
        return self.path("final", "plan.parquet")

    def mask_path(self, method: str, case: str) -> str:
        """Return the path of a predicted mask on the grid of its scan."""
        return self.path("final", "masks", method, f"{case}.nii.gz")

    def roi_labels_path(self, method: str, case: str) -> str:
        """Return the path of a predicted mask on the grid of its ROI."""
        return self.path("final", "roi_labels", method, f"{case}.npz")

    def signs_folder(self, method: str) -> str:
        """Return the folder with the signs of quality of a method's masks."""
        return self.path("final", "signs", method)

    def signs_path(self, method: str, case: str) -> str:
        """Return the path of the signs of quality of one mask."""
        return self.path("final", "signs", method, f"{case}.json")

    @property
    def parts_folder(self) -> str:
        """The measurements of single cases, from which an interrupted final stage resumes."""
        return self.path("final", "parts")

    def part_path(self, name: str) -> str:
        """Return the path of the measurements of a finalist on one case."""
        return self.path("final", "parts", name)

    @property
    def votes_folder(self) -> str:
        """The votes of validation cases, kept until the post-processing is chosen."""
        return self.path("final", "votes")

    def vote_path(self, name: str) -> str:
        """Return the path of the vote of a finalist on one case."""
        return self.path("final", "votes", name)

    def post_processing_path(self, method: str, digest: str) -> str:
        """Return the path of a method's post-processing and of the measurements that chose it."""
        return self.path("final", "steps", f"{method}-{digest}.json")

    @property
    def views_folder(self) -> str:
        """The test cases that the report shows."""
        return self.path("final", "views")

    def view_path(self, case: str) -> str:
        """Return the path of what the report shows of a test case: image, truth and predictions."""
        return self.path("final", "views", f"{case}.npz")

    def manifest(self) -> Manifest:
        """Read the manifest. Raises ResultsError where it is missing or damaged."""
        return read_manifest(self.folder, self.manifest_path)

    def selection(self) -> Selection:
        """Read the choice of the winner; it has no finalists before the final stage."""
        return read_selection(self.selection_path)

    def trials(self) -> list[Trial] | None:
        """Read `trials.parquet`: one row per trial of the search and per repeat of a finalist."""
        return find_rows(self.trials_path, Trial)

    def epochs(self) -> list[Epoch] | None:
        """Read `curves.parquet`: one row per epoch of a trial or repeat."""
        return find_rows(self.curves_path, Epoch)

    def importances(self) -> list[Importance]:
        """Read `importances.parquet`: one row per network and searched parameter; empty before the search ends."""
        return find_rows(self.importances_path, Importance) or []

    def effects(self) -> list[Effect]:
        """Read `effects.parquet`: one row per network, searched parameter and group of its values.

        Empty before the search ends, without enough trials, and in a folder of an earlier version.
        """
        return find_rows(self.effects_path, Effect) or []

    def interactions(self) -> list[InteractionCell]:
        """Read `interactions.parquet`: one row per network and cell of its two most important parameters."""
        return find_rows(self.interactions_path, InteractionCell) or []

    def measurements(self) -> list[Measurement] | None:
        """Read `metrics.parquet`: one row per case, method, stage and label."""
        return find_rows(self.metrics_path, Measurement)

    def quality(self) -> list[Quality]:
        """Read `quality.parquet`: one row per case; empty where validation cases were too few to calibrate."""
        return find_rows(self.quality_path, Quality) or []

    def planning(self) -> list[PlanningSheet]:
        """Read `plan.parquet`: one planning sheet per kidney and source."""
        return find_rows(self.planning_path, PlanningSheet) or []
