"""Forecast of a study before it starts: trials, device-hours, wall time, disk and memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from renalnet.config import MAIN_NETWORK, NetName
from renalnet.runtime.durations import duration_words
from study.config import space
from study.config.sections import Slots, StudyConfig
from study.progress.progress import hours_words
from study.progress.trial_cost import DataCost, Measured, NetworkCost
from study.search.rungs import rung_ages
from study.search.trial_counts import count_repeats, count_trials, num_finalists

LOG_BYTES_PER_TRIAL: Final = 12_000
LOG_BYTES_PER_EPOCH: Final = 3_700
"""Size of records, journal and the files of Ray Tune and TensorBoard, measured on small studies."""
CHECKPOINTS_PER_TRIAL: Final = 2
"""Checkpoints of a trial at the same time: `renalnet.nets.bundle` keeps the newest two."""


@dataclass(frozen=True)
class Cluster:
    """Size of a Ray cluster."""

    num_nodes: int
    num_cpus: int
    num_gpus: int


@dataclass(frozen=True)
class Disk:
    """Bytes of a results folder."""

    weights: int
    """Checkpoints and models of the best trials and of all that run at once."""
    logs: int
    """Records, logs and journal."""
    masks: int
    """Masks of the final stage, and the images that the report shows."""
    data: int
    """Synthetic cohort and its store; 0 where the user named a store."""

    @property
    def total(self) -> int:
        """Size of the folder while the last trials run."""
        return self.weights + self.logs + self.masks + self.data


@dataclass(frozen=True)
class Forecast:
    """Cost of a study on the slots of a cluster."""

    num_trials: Mapping[NetName, int]
    """Trials by network."""
    trial_s: Mapping[NetName, float]
    """Time of a trial that trains all its epochs, by network."""
    most_hours: float
    """GPU-hours, or processor-hours without a GPU, if nothing is pruned; with the final stage."""
    expected_hours: float | None
    """Hours with successive halving (see `halving_share`); None with the median rule, which is not predicted."""
    most_wall_s: float
    """Wall time if nothing is pruned."""
    expected_wall_s: float | None
    """Wall time with successive halving; None with the median rule."""
    disk: Disk
    """Size of the results folder."""


def forecast(config: StudyConfig, measured: Measured, slots: Slots) -> Forecast:
    """Return hours, wall time and disk space of a study, from measurements on one slot."""
    trials = count_trials(config)
    num_validation = config.train.max_validation_cases or measured.data.num_cases["validation"]
    trial_s = {name: trial_seconds(config, cost, num_validation) for name, cost in measured.networks.items()}
    shares = {name: expected_share(config, number) for name, number in trials.items()}
    repeats_s = sum(number * trial_s[name] for name, number in count_repeats(config).items())
    most_s = sum(number * trial_s[name] for name, number in trials.items()) + repeats_s
    expected_s = sum(number * trial_s[name] * (shares[name] or 0.0) for name, number in trials.items()) + repeats_s
    is_known = None not in shares.values()
    final_s, final_wall_s = final_seconds(config, measured, slots.num_slots)
    hours_per_s = (slots.gpus or slots.cpus) / 3600

    def wall_s(runs_s: float) -> float:
        return max(runs_s / slots.num_slots, *trial_s.values()) + final_wall_s

    return Forecast(
        num_trials=trials,
        trial_s=trial_s,
        most_hours=(most_s + final_s) * hours_per_s,
        expected_hours=(expected_s + final_s) * hours_per_s if is_known else None,
        most_wall_s=wall_s(most_s),
        expected_wall_s=wall_s(expected_s) if is_known else None,
        disk=disk_bytes(config, measured, slots.num_slots),
    )


def trial_seconds(config: StudyConfig, cost: NetworkCost, num_validation: int) -> float:
    """Return the seconds of a trial that trains all its epochs and scores `num_validation` cases after each."""
    epoch_s = config.train.steps_per_epoch * cost.step_s + num_validation * cost.case_s
    return config.train.epochs * epoch_s


def final_seconds(config: StudyConfig, measured: Measured, num_slots: int) -> tuple[float, float]:
    """Return the seconds of the final stage, summed over slots and as wall time.

    The cases of a finalist in one split share the slots; finalists follow each other.
    """
    costs = [measured.networks[MAIN_NETWORK]] * num_finalists(config)
    costs += [measured.networks[name] for name in config.search.baselines]
    networks_s = sum(cost.final_s for cost in costs) * config.final.seeds  # each member of an ensemble segments
    crf_s = sum(cost.crf_s for cost in costs) * config.final.tuning_trials
    num_validation, num_test = (measured.data.num_cases[split] for split in ("validation", "test"))
    total_s = (networks_s + crf_s) * num_validation + networks_s * num_test
    rounds, test_rounds = (math.ceil(number / num_slots) for number in (num_validation, num_test))
    return total_s, (networks_s + crf_s) * rounds + networks_s * test_rounds


def expected_share(config: StudyConfig, num_trials: int) -> float | None:
    """Return the share of all epochs that the trials of a network train on average; None for the median rule."""
    if config.search.pruner == "median":
        return None
    if config.search.pruner == "none":
        return 1.0
    first, last = config.space.first_step
    shares = [
        halving_share(num_trials, config.train.epochs, _rung_epochs(config, step), config.search.reduction_factor)
        for step in range(first, last + 1)
    ]
    return sum(shares) / len(shares)


def _rung_epochs(config: StudyConfig, first_step: int) -> list[int]:
    search = config.search
    ages = rung_ages(search.grace_epochs, search.reduction_factor, config.train.epochs, first_step)
    return [first_step + age for age in ages]


def halving_share(num_trials: int, num_epochs: int, rung_epochs: Sequence[int], reduction_factor: int) -> float:
    """Return the share of all epochs that trials train under asynchronous successive halving, in random order.

    The trial that reaches a rung as number m + 1 continues if it is not below the quantile 1 - 1/r of the m values
    there. This quantile is (1 - 1/r)(m - 1) places above the lowest value. The new value is equally likely to be in
    each of the m + 1 gaps between the values. So it continues with probability (m - (1 - 1/r)(m - 1)) / (m + 1): 1 for
    the first trial, 1/2 for the second, 1/r in the limit. With more than one rung the share is a few percent too low,
    because a trial that passed the first rung late had to be better. A search that learns prunes less as well.

    Args:
        num_trials: trials of a network.
        num_epochs: epochs of a trial that is not pruned.
        rung_epochs: epochs of the rungs, for trials with one first milestone.
        reduction_factor: r, the inverse of the share that continues at a rung.
    """
    reached = float(num_trials)
    trained = 0.0
    begun = 0
    for rung in rung_epochs:
        trained += reached * (rung - begun)
        reached = _num_passing(reached, reduction_factor)
        begun = rung
    return (trained + reached * (num_epochs - begun)) / (num_trials * num_epochs)


def _num_passing(reached: float, reduction_factor: int) -> float:
    """Return the expected number of trials that pass a rung; a fraction of a trial passes with its probability."""
    quantile = 1 - 1 / reduction_factor
    whole = int(reached)
    chances = [1.0] + [(m - quantile * (m - 1)) / (m + 1) for m in range(1, whole + 1)]
    return sum(chances[:whole]) + (reached - whole) * chances[whole]


def disk_bytes(config: StudyConfig, measured: Measured, num_slots: int) -> Disk:
    """Return the size of the results folder at its maximum, when all running trials have the largest network."""
    num_trials = sum(count_trials(config).values())
    return Disk(
        weights=_weight_bytes(config, measured.networks, min(num_slots, num_trials)),
        logs=num_trials * (LOG_BYTES_PER_TRIAL + config.train.epochs * LOG_BYTES_PER_EPOCH),
        masks=_mask_bytes(config, measured.data),
        data=measured.data.prepared_bytes,
    )


def _weight_bytes(config: StudyConfig, costs: Mapping[NetName, NetworkCost], num_running: int) -> int:
    sizes = {name: CHECKPOINTS_PER_TRIAL * cost.checkpoint_bytes + cost.model_bytes for name, cost in costs.items()}
    repeats = count_repeats(config)
    kept = sum(
        (min(config.search.kept_models, number) + repeats[name]) * sizes[name]
        for name, number in count_trials(config).items()
    )
    best = config.final.seeds * costs[MAIN_NETWORK].model_bytes
    return kept + best + num_running * max(sizes.values())


def _mask_bytes(config: StudyConfig, data: DataCost) -> int:
    num_finalists_of_all = num_finalists(config) + len(config.search.baselines)
    masks = num_finalists_of_all * (data.num_cases["validation"] + data.num_cases["test"]) * data.mask_bytes
    # A view holds the mask of one finalist per network, but only on the grid of the ROI: about half of the size.
    views = data.num_cases["test"] * (data.view_bytes + len(count_trials(config)) * data.mask_bytes // 2)
    return masks + views


def forecast_lines(config: StudyConfig, cluster: Cluster, slots: Slots, measured: Measured) -> Iterator[str]:
    """Return lines of text: the configuration, the cluster, the measurements and the forecast."""
    yield from _meaning(config, slots)
    yield (
        f"cluster     nodes {cluster.num_nodes}, GPUs {cluster.num_gpus}, processors {cluster.num_cpus}: "
        f"{slots.num_slots} trials at once"
    )
    yield from _measurement(measured)
    yield from _outcome(forecast(config, measured, slots), measured, slots)


def _meaning(config: StudyConfig, slots: Slots) -> Iterator[str]:
    train, trials = config.train, count_trials(config)
    shape = "×".join(map(str, train.patch.shape))
    yield f"study       {config.preset}: {', '.join(f'{name} {number}' for name, number in trials.items())} trials"
    yield f"space       {'; '.join(_domain_words(*item) for item in space.domains(config.space, MAIN_NETWORK).items())}"
    yield (
        f"trial       {train.epochs} epochs of {train.steps_per_epoch} steps of {train.optim.batch_size} crops of "
        f"{shape} on {_devices(slots)}"
    )
    yield f"search      {config.search.sampler}, seed {config.seed}; {_pruning(config)}"
    yield f"finalists   {_finalists(config)}; weights of the best {config.search.kept_models} of each network are kept"


def _finalists(config: StudyConfig) -> str:
    final, repeats = config.final, sum(count_repeats(config).values())
    runs = f", each over {final.seeds} seeds" if final.seeds > 1 else ""
    folds = f" and those of {MAIN_NETWORK} on {final.folds} folds" if final.folds else ""
    more = f" ({repeats} further runs)" if repeats else ""
    return (
        f"{num_finalists(config)} of {MAIN_NETWORK} and the best of each baseline{runs}{folds}{more}, by full inference"
    )


def _domain_words(name: str, domain: space.Domain) -> str:
    match domain:
        case space.Choice(options) if name == space.KERNELS:
            return f"{len(options)} sets of pooling kernels ({', '.join(map(str, options))})"
        case space.Choice(options):
            return f"{name} {', '.join(map(str, options))}"
        case space.Real(low, high, True):
            return f"{name} {low:g} to {high:g} on a log scale"
        case space.Real(low, high) | space.Whole(low, high):
            return f"{name} {low:g} to {high:g}"


def _devices(slots: Slots) -> str:
    processors = f"{slots.cpus} processor{'s' if slots.cpus > 1 else ''}"
    return f"{slots.gpus:g} GPU and {processors}" if slots.gpus else processors


def _pruning(config: StudyConfig) -> str:
    search = config.search
    ages = rung_ages(search.grace_epochs, search.reduction_factor, config.train.epochs, config.space.first_step[0])
    if search.pruner == "none" or not ages:
        return "nothing is pruned"
    after = "epochs after a trial's first milestone"
    if search.pruner == "median":
        return f"from {search.grace_epochs} {after} on, trials below the median are pruned"
    return f"{', '.join(map(str, ages))} {after} the best 1/{search.reduction_factor} of a network's trials continue"


def _measurement(measured: Measured) -> Iterator[str]:
    for name, cost in measured.networks.items():
        yield (
            f"measured    {name} on {measured.device}: {cost.step_s:.3g} s per step, {cost.case_s:.3g} s per "
            f"validation case, {cost.final_s:.3g} s per case of the final stage"
        )


def _outcome(found: Forecast, measured: Measured, slots: Slots) -> Iterator[str]:
    whole = ", ".join(f"{name} {duration_words(seconds)}" for name, seconds in found.trial_s.items())
    yield f"trials      {sum(found.num_trials.values())}; one that is not pruned takes {whole}"
    device, disk = "GPU" if slots.gpus else "processor", found.disk
    wall = f"{duration_words(found.most_wall_s)} at most"
    hours = f"{hours_words(found.most_hours)} at most"
    if found.expected_hours is not None and found.expected_wall_s is not None:
        hours += f", about {hours_words(found.expected_hours)} with pruning"
        wall += f", about {duration_words(found.expected_wall_s)} with pruning"
    yield f"hours       {hours} ({device}-hours of search and final stage)"
    yield f"wall time   {wall} on {slots.num_slots} slots, without painting and preparing data"
    yield (
        f"disk        {_size(disk.total)}: weights {_size(disk.weights)}, logs {_size(disk.logs)}, "
        f"masks {_size(disk.masks)}" + (f", synthetic data {_size(disk.data)}" if disk.data else "")
    )
    yield f"memory      {_size(measured.data.decoded_bytes)} of decoded cases per node"


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
