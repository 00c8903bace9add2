"""Another program's masks of the test patients, measured as the study's own are: on the grids of their ROIs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from renalnet.data.images.mask_files import find_masks, read_source_mask
from renalnet.data.images.resampling import regrid_label
from renalnet.data.images.volume import canonical, grid_difference
from renalnet.data.store.reader import Roi, Store, open_store
from renalnet.errors import ConfigError, InputError, ResultsError, StoreError
from renalnet.evaluation.table import measure
from renalnet.runtime import storage
from renalnet.types import LabelArray
from study.records.tables import Manifest, Measurement, row_of
from study.report.analysis.summary import ADDED, TITLES


@dataclass(frozen=True, eq=False)
class Added:
    """A program's masks."""

    name: str
    measurements: list[Measurement]
    labels: dict[str, LabelArray]
    """On the grid of the ROI, by case."""
    missing: list[str]
    """Test patients without a mask; they are in none of its means."""


def parse_added(assignment: str) -> tuple[str, Path]:
    """The name and the folder of `NAME=DIR`. Raises ConfigError where it is neither, or a network of ours."""
    name, separator, folder = assignment.partition("=")
    if not (name.strip() and separator and folder):
        raise ConfigError(f"--add {assignment}: not of the form NAME=DIR, such as nnunet=/data/nnunet/masks")
    if name.strip() in TITLES:
        raise ConfigError(f"--add {assignment}: '{name.strip()}' is a network of the study; take another name")
    return name.strip(), Path(folder)


def find_store(results: str, manifest: Manifest, data: str | None) -> Store:
    """The store that a study was made on: the one that is named, the study's own, or that of its manifest.

    Raises:
        ResultsError: it is not there, or is another store.
    """
    own = storage.join(results, "store")
    path = data or (own if storage.exists(storage.join(own, "manifest.json")) else manifest.data.source)
    try:
        store = open_store(path)
    except StoreError as error:
        raise ResultsError(
            f"{path}: masks are measured against the truth in the study's store, which is not here ({error}); name it "
            "with --data"
        ) from error
    if store.fingerprint != manifest.data.fingerprint:
        raise ResultsError(
            f"{path} has the fingerprint {store.fingerprint}, the study was made on {manifest.data.fingerprint}; name "
            "the study's store with --data"
        )
    return store


def measure_added(name: str, folder: Path, store: Store) -> Added:
    """Measure a folder of masks named as the cases, each on the grid of its scan.

    What lies outside the patient's ROI does not count, for the study's networks see nothing else.

    Raises:
        InputError: the folder holds no mask of a test patient, or one lies on another grid, or holds other labels.
    """
    masks, cases = find_masks(folder), store.cases("test")
    measured, labels = list[Measurement](), dict[str, LabelArray]()
    for roi in (store.read(case) for case in cases if case in masks):
        labels[roi.case] = _on_roi(masks[roi.case], roi)
        measured.extend(_measure(name, labels[roi.case], roi))
    if not labels:
        raise InputError(
            f"{folder}: holds no mask of the {len(cases)} test patients; their names are {cases[0]}.nii.gz, …"
        )
    return Added(name, measured, labels, [case for case in cases if case not in labels])


def _on_roi(path: Path, roi: Roi) -> LabelArray:
    mask = read_source_mask(path)
    difference = grid_difference(mask.grid, roi.source)
    if difference:
        raise InputError(f"{path}: lies on another grid than the scan of {roi.case} ({difference}); masks keep theirs")
    return regrid_label(canonical(mask, is_label=True), roi.grid).array


def _measure(name: str, labels: LabelArray, roi: Roi) -> Iterable[Measurement]:
    about = {"case": roi.case, "split": "test", "network": name, "role": ADDED, "stage": "final"}
    for measures in measure(roi.label, labels, roi.spacing_mm):
        yield row_of(name, Measurement, {**about, **asdict(measures)})
