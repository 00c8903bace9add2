"""Names of trials and repeats, which are also the names of their folders."""


def trial_name(network: str, number: int) -> str:
    """Return the name of a trial of the search, such as `fcn_ppm-0003`."""
    # Leading zeros, so that the order of the names is the order of the trials.
    return f"{network}-{number:04d}"


def seed_repeat_name(finalist: str, seed: int) -> str:
    """Return the name of a finalist's run with another seed, such as `fcn_ppm-0003-seed-1`."""
    return f"{finalist}-seed-{seed}"


def fold_repeat_name(finalist: str, fold: int, num_folds: int) -> str:
    """Return the name of a finalist's run on a fold, counted from 0, such as `fcn_ppm-0003-fold-0-of-5`."""
    # With the number of folds, because a resumed study may deal its cases to more or fewer of them.
    return f"{finalist}-fold-{fold}-of-{num_folds}"
