"""Names of the files and folders in a results folder, which other programs read."""

from renalnet import storage

MANIFEST = "manifest.json"
LEASE = ".lease"
"""Of the driver that writes the folder; hidden, so that a folder that holds nothing else is empty."""
JOURNAL = "optuna.journal"
TRIALS_TABLE = "trials.parquet"
CURVES_TABLE = "curves.parquet"
TRIAL_RECORD = "trial.json"


def trial_folder(results: str, name: str) -> str:
    """Where a trial keeps its record, log, checkpoints and best model."""
    return storage.join(results, "trials", name)


def trial_name(network: str, number: int) -> str:
    """A trial's name, `fcn_ppm-0003`."""
    return f"{network}-{number:04d}"


def mask_path(results: str, name: str, case: str) -> str:
    """A predicted mask on the grid of its scan."""
    return storage.join(results, "final", "masks", name, f"{case}.nii.gz")


def roi_labels_path(results: str, name: str, case: str) -> str:
    """The same labels on the ROI's grid."""
    return storage.join(results, "final", "roi_labels", name, f"{case}.npz")


def part_path(results: str, split: str, name: str) -> str:
    """The measures of one checkpoint on one split, from which an interrupted final stage goes on."""
    return storage.join(results, "final", "parts", f"{split}-{name}.parquet")


def final_path(results: str, name: str) -> str:
    """A file of the final stage."""
    return storage.join(results, "final", name)


def view_path(results: str, case: str) -> str:
    """What the report shows of a patient: image, truth and labels."""
    return storage.join(results, "final", "views", f"{case}.npz")


def best_folder(results: str) -> str:
    """The winner's model bundle."""
    return storage.join(results, "best")
