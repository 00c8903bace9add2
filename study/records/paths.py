"""Names of the files and folders in a results folder, which other programs read."""

from renalnet.runtime import storage

MANIFEST = "manifest.json"
LEASE = ".lease"
"""Of the driver that writes the folder; hidden, so that a folder that holds nothing else is empty."""
JOURNAL = "optuna.journal"
TRIALS_TABLE = "trials.parquet"
CURVES_TABLE = "curves.parquet"
IMPORTANCES_TABLE = "importances.parquet"
TRIAL_RECORD = "trial.json"


def trial_folder(results: str, name: str) -> str:
    """Where a trial keeps its record, log, checkpoints and best model."""
    return storage.join(results, "trials", name)


def trial_name(network: str, number: int) -> str:
    """A trial's name, `fcn_ppm-0003`."""
    return f"{network}-{number:04d}"


def seed_repeat_name(of: str, seed: int) -> str:
    """Of another run of a finalist with another seed, `fcn_ppm-0003-seed-1`."""
    return f"{of}-seed-{seed}"


def fold_repeat_name(of: str, fold: int, num_folds: int) -> str:
    """Of another run of a finalist on a fold, counted from 0: `fcn_ppm-0003-fold-0-of-5`."""
    return f"{of}-fold-{fold}-of-{num_folds}"


def mask_path(results: str, name: str, case: str) -> str:
    """A predicted mask on the grid of its scan."""
    return storage.join(results, "final", "masks", name, f"{case}.nii.gz")


def roi_labels_path(results: str, name: str, case: str) -> str:
    """The same labels on the ROI's grid."""
    return storage.join(results, "final", "roi_labels", name, f"{case}.npz")


def signs_folder(results: str, name: str) -> str:
    """Where it is kept what is known of a candidate's masks without their truth."""
    return storage.join(results, "final", "signs", name)


def signs_path(results: str, name: str, case: str) -> str:
    """The same of one patient."""
    return storage.join(signs_folder(results, name), f"{case}.json")


def parts_folder(results: str) -> str:
    """Where the measures of single patients lie, from which an interrupted final stage goes on."""
    return storage.join(results, "final", "parts")


def part_name(split: str, name: str, digest: str, case: str) -> str:
    """The measures of one patient by one candidate; `digest` changes with its weights and with how they are used."""
    return f"{split}-{name}-{digest}-{case}.parquet"


def part_path(results: str, split: str, name: str, digest: str, case: str) -> str:
    """Where these lie."""
    return storage.join(parts_folder(results), part_name(split, name, digest, case))


def votes_folder(results: str) -> str:
    """Where validation patients' votes wait until the steps behind them are settled."""
    return storage.join(results, "final", "votes")


def vote_path(results: str, name: str, digest: str, case: str) -> str:
    """A patient's vote by one candidate."""
    return storage.join(votes_folder(results), f"{name}-{digest}-{case}.npz")


def steps_path(results: str, name: str, digest: str) -> str:
    """A candidate's steps behind the vote, and what settled them."""
    return storage.join(results, "final", "steps", f"{name}-{digest}.json")


def final_folder(results: str) -> str:
    """Where the final stage writes."""
    return storage.join(results, "final")


def final_path(results: str, name: str) -> str:
    """A file of the final stage."""
    return storage.join(final_folder(results), name)


def view_path(results: str, case: str) -> str:
    """What the report shows of a patient: image, truth and labels."""
    return storage.join(results, "final", "views", f"{case}.npz")


def best_folder(results: str) -> str:
    """The winner's model bundle."""
    return storage.join(results, "best")
