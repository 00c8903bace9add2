"""What a study will take, before it starts: trials, device-hours, wall time, disk, memory; and all of it in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from renalnet.config import MAIN_NETWORK, NetName
from renalnet.runtime.durations import duration_words
from study.config.sections import Slots, StudyConfig
from study.progress.progress import hours_words
from study.progress.trial_cost import Measured, NetworkCost
from study.config import space
from study.search.rungs import rung_ages
from study.search.trial_counts import count_repeats, count_trials, num_finalists

LOG_BYTES_A_TRIAL: Final = 12_000
LOG_BYTES_AN_EPOCH: Final = 3_700
"""Of records, journal, Ray Tune's files and TensorBoard's, as small studies left them."""
CHECKPOINTS_A_TRIAL: Final = 2
"""`renalnet.nets.bundle` keeps the newest two."""


@dataclass(frozen=True)
class Cluster:
    """What Ray offers."""

    num_nodes: int
    num_cpus: int
    num_gpus: int


@dataclass(frozen=True)
class Disk:
    """Bytes in the results folder."""

    weights: int
    """Of the trials that keep theirs, with all that run at once."""
    logs: int
    masks: int
    """Of the final stage, with what the report shows of the patients."""
    data: int
    """Of a synthetic cohort and its store."""

    @property
    def total(self) -> int:
        """All of it, while the last trials run."""
        return self.weights + self.logs + self.masks + self.data


@dataclass(frozen=True)
class Forecast:
    """Of a whole study on a cluster's slots."""

    num_trials: Mapping[NetName, int]
    trial_s: Mapping[NetName, float]
    """Of a trial that trains all its epochs, by network."""
    most_hours: float
    """GPU-hours, or processor-hours where there is no GPU, if nothing is pruned; the final stage counted."""
    expected_hours: float | None
    """With successive halving (see `halving_share`); none where the median rule prunes, of which nothing is known."""
    most_wall_s: float
    expected_wall_s: float | None
    disk: Disk


def forecast(config: StudyConfig, measured: Measured, slots: Slots) -> Forecast:
    """Hours, wall time and disk of a study, from what one slot has shown."""
    trials = count_trials(config)
    looked_at = config.train.max_validation_cases or measured.data.num_cases["validation"]
    trial_s = {name: trial_seconds(config, cost, looked_at) for name, cost in measured.networks.items()}
    shares = {name: expected_share(config, number) for name, number in trials.items()}
    repeats_s = sum(number * trial_s[name] for name, number in count_repeats(config).items())
    most_s = sum(number * trial_s[name] for name, number in trials.items()) + repeats_s
    is_known = all(share is not None for share in shares.values())
    expected_s = sum(number * trial_s[name] * (shares[name] or 0.0) for name, number in trials.items()) + repeats_s
    longest_s = max(trial_s.values())
    final_s, final_wall_s = final_seconds(config, measured, slots.num_slots)
    hours = (slots.gpus or slots.cpus) / 3600
    return Forecast(
        num_trials=trials,
        trial_s=trial_s,
        most_hours=(most_s + final_s) * hours,
        expected_hours=(expected_s + final_s) * hours if is_known else None,
        most_wall_s=max(most_s / slots.num_slots, longest_s) + final_wall_s,
        expected_wall_s=max(expected_s / slots.num_slots, longest_s) + final_wall_s if is_known else None,
        disk=disk_bytes(config, measured, slots.num_slots),
    )


def trial_seconds(config: StudyConfig, cost: NetworkCost, num_validation: int) -> float:
    """Seconds of a trial that trains all its epochs and looks at so many validation patients after each."""
    epoch_s = config.train.steps_per_epoch * cost.step_s + num_validation * cost.patient_s
    return config.train.epochs * epoch_s


def final_seconds(config: StudyConfig, measured: Measured, num_slots: int) -> tuple[float, float]:
    """The final stage in seconds of a slot and of the clock: each candidate's patients of a split share the slots."""
    costs = [measured.networks[MAIN_NETWORK]] * num_finalists(config)
    costs += [measured.networks[name] for name in config.search.baselines]
    networks_s = sum(cost.final_s for cost in costs) * config.final.seeds  # each member of an ensemble segments
    fields_s = sum(cost.field_s for cost in costs) * config.final.tuning_trials
    num_validation, num_test = (measured.data.num_cases[split] for split in ("validation", "test"))
    total_s = (networks_s + fields_s) * num_validation + networks_s * num_test
    rounds, test_rounds = (math.ceil(number / num_slots) for number in (num_validation, num_test))
    return total_s, (networks_s + fields_s) * rounds + networks_s * test_rounds


def expected_share(config: StudyConfig, num_trials: int) -> float | None:
    """The part of all epochs that a network's trials train on average; none where the rule is not foretold."""
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
    """The part of all epochs that trials train under asynchronous successive halving, if they come in no order.

    Rungs lie at the given epochs, for trials of one first learning-rate step. A trial that reaches a rung as its
    (m+1)th goes on if it is not below the quantile 1 - 1/r of the m values there. That quantile lies
    (1 - 1/r)(m - 1) places above the least value, and the new value falls into each of the m + 1 gaps between them with
    the same chance, so that it goes on with chance (m - (1 - 1/r)(m - 1)) / (m + 1): 1 for the first, 1/2 for the
    second, 1/r in the long run. Epochs between two rungs are trained by those who went on at the first. Where there are
    more rungs this is some per cent too low: who went on late at the first one had to be better. A search that learns
    prunes less, too.
    """
    reached, trained, begun = float(num_trials), 0.0, 0
    for rung in rung_epochs:
        trained += reached * (rung - begun)
        reached, begun = _num_going_on(reached, reduction_factor), rung
    return (trained + reached * (num_epochs - begun)) / (num_trials * num_epochs)


def _num_going_on(reached: float, reduction_factor: int) -> float:
    """Trials expected to pass a rung that so many reach; a last part of a trial counts as a part."""
    quantile = 1 - 1 / reduction_factor
    whole = int(reached)
    chances = [1.0] + [(m - quantile * (m - 1)) / (m + 1) for m in range(1, whole + 1)]
    return sum(chances[:whole]) + (reached - whole) * chances[whole]


def disk_bytes(config: StudyConfig, measured: Measured, num_slots: int) -> Disk:
    """What a study leaves in its results, at most: while trials run, the networks' largest ones."""
    trials = count_trials(config)
    sizes = {
        name: CHECKPOINTS_A_TRIAL * cost.checkpoint_bytes + cost.model_bytes for name, cost in measured.networks.items()
    }
    repeats = count_repeats(config)
    numbers = {name: min(config.search.kept_models, number) + repeats[name] for name, number in trials.items()}
    kept = sum(number * sizes[name] for name, number in numbers.items())
    data = measured.data
    num_masks = num_finalists(config) + len(config.search.baselines)
    masks = num_masks * (data.num_cases["validation"] + data.num_cases["test"]) * data.mask_bytes
    views = data.num_cases["test"] * (data.view_bytes + len(trials) * data.mask_bytes // 2)
    best = config.final.seeds * measured.networks[MAIN_NETWORK].model_bytes
    return Disk(
        weights=kept + best + min(num_slots, sum(trials.values())) * max(sizes.values()),
        logs=sum(trials.values()) * (LOG_BYTES_A_TRIAL + config.train.epochs * LOG_BYTES_AN_EPOCH),
        masks=masks + views,
        data=data.prepared_bytes,
    )


def forecast_lines(config: StudyConfig, cluster: Cluster, slots: Slots, measured: Measured) -> Iterator[str]:
    """The configuration, the cluster, what was measured and what follows, a line each."""
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
        f"a trial     {train.epochs} epochs of {train.steps_per_epoch} steps of {train.optim.batch_size} crops of "
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
    behind = "epochs after a trial's first learning-rate step"
    if search.pruner == "median":
        return f"from {search.grace_epochs} {behind} on, trials below the median are pruned"
    return f"{', '.join(map(str, ages))} {behind} the best 1/{search.reduction_factor} of a network's trials go on"


def _measurement(measured: Measured) -> Iterator[str]:
    for name, cost in measured.networks.items():
        yield (
            f"measured    {name} on {measured.device}: {cost.step_s:.3g} s a step, {cost.patient_s:.3g} s a validation "
            f"patient, {cost.final_s:.3g} s a patient of the final stage"
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
    yield f"wall time   {wall} on {slots.num_slots} slots, painting and preparing not counted"
    yield (
        f"disk        {_size(disk.total)}: weights {_size(disk.weights)}, logs {_size(disk.logs)}, "
        f"masks {_size(disk.masks)}" + (f", synthetic data {_size(disk.data)}" if disk.data else "")
    )
    yield f"memory      {_size(measured.data.decoded_bytes)} of decoded patients a node, held once"


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
