"""Another program's masks of the test cases, measured as the study's own masks: on the grids of their ROIs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from renalnet.config import LabelSet
from renalnet.data.cases.placing import on_grid
from renalnet.data.images.grid import grid_difference
from renalnet.data.images.mask_files import find_masks, read_source_mask
from renalnet.data.images.resampling import regrid_label
from renalnet.data.images.volume import canonical
from renalnet.data.store.reader import Roi, Store, open_store
from renalnet.errors import ConfigError, InputError, ResultsError, StoreError
from renalnet.evaluation.table import measure
from renalnet.inference.post_processing import FINAL
from renalnet.runtime import storage
from renalnet.types import LabelArray
from study.records.documents import Manifest
from study.records.parquet import row_of
from study.records.results import Results
from study.records.tables import ADDED, TRUTH, Measurement
from study.report.analysis.methods import LOOKS


@dataclass(frozen=True, eq=False)
class Added:
    """A program's masks."""

    name: str
    measurements: list[Measurement]
    labels: dict[str, LabelArray]
    """Labels on the grid of the ROI, by case."""
    missing: list[str]
    """Test cases without a mask; they are not part of the program's means."""


def parse_added(assignment: str) -> tuple[str, Path]:
    """Return the name and the folder of `NAME=DIR`.

    Raises:
        ConfigError: the text has another form, or the name is that of a network or rule of the study, or of the truth.
    """
    name, separator, folder = assignment.partition("=")
    if not (name.strip() and separator and folder):
        raise ConfigError(f"--add {assignment}: not of the form NAME=DIR, such as nnunet=/data/nnunet/masks")
    # Figures and the table of cases know a method, and the true label map, by its name alone.
    if name.strip() in (*LOOKS, TRUTH):
        raise ConfigError(f"--add {assignment}: '{name.strip()}' is a name of the study; choose another one")
    return name.strip(), Path(folder)


def find_store(results: Results, manifest: Manifest, data: str | None) -> Store:
    """Open the study's store: the one given by the user, the one in the results folder, or that of the manifest.

    Raises:
        ResultsError: the store does not exist, or it is not the store of this study.
    """
    # The store of a synthetic cohort lies in the results folder, and the manifest has no path for it.
    path = data or _own_store(results) or manifest.data.source
    try:
        store = open_store(path)
    except StoreError as error:
        raise ResultsError(
            f"{path}: the study's store, which --add needs for the true masks, cannot be opened ({error}); name the "
            "store with --data"
        ) from error
    if store.fingerprint != manifest.data.fingerprint:
        raise ResultsError(
            f"{path}: the store's fingerprint {store.fingerprint} differs from that of the study, "
            f"{manifest.data.fingerprint}; name the study's store with --data"
        )
    return store


def _own_store(results: Results) -> str | None:
    has_store = storage.exists(storage.join(results.store_folder, "manifest.json"))
    return results.store_folder if has_store else None


def measure_added(name: str, folder: Path, store: Store) -> Added:
    """Measure a folder of masks, each with the name of its case and on the grid of its scan or of its ROI.

    Only voxels inside the ROI count, because the study's networks see only the ROI.

    Raises:
        InputError: the folder holds no mask of a test case, or a mask has another grid or other labels.
    """
    masks = find_masks(folder)
    cases = store.cases("test")
    measured = list[Measurement]()
    labels = dict[str, LabelArray]()
    # A generator, so that only one ROI is in memory.
    for roi in (store.read(case) for case in cases if case in masks):
        labels[roi.case] = _on_roi(masks[roi.case], roi, store.labels)
        measured.extend(_measure(name, labels[roi.case], roi, store.labels))
    if not labels:
        raise InputError(
            f"{folder}: holds no mask of the {len(cases)} test cases; name the files as the cases, such as "
            f"{cases[0]}.nii.gz"
        )
    return Added(name, measured, labels, [case for case in cases if case not in labels])


def _on_roi(path: Path, roi: Roi, labels: LabelSet) -> LabelArray:
    mask = read_source_mask(path, labels)
    if grid_difference(mask.grid, roi.grid) is None:  # of a program that was given the ROI
        return mask.array
    remedy = "resample it to the grid of the scan or of the ROI"
    mask = on_grid(mask, roi.source, path, than=f"the scan of {roi.case}", remedy=remedy)
    # ROIs are cut from canonical scans, so the mask is turned the same way first.
    return regrid_label(canonical(mask, is_label=True), roi.grid).array


def _measure(name: str, values: LabelArray, roi: Roi, labels: LabelSet) -> Iterable[Measurement]:
    # Only rows of the final stage enter Table I; another program has no stages.
    about = {"case": roi.case, "split": "test", "network": name, "role": ADDED, "stage": FINAL}
    for measures in measure(roi.label, values, roi.spacing_mm, labels):
        yield row_of(name, Measurement, {**about, **asdict(measures)})
