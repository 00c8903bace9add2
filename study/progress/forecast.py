"""Forecast of a study before it starts: trials, device-hours, wall time, disk and memory."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from renalnet.config import MAIN_NETWORK, NetName
from study.config.sections import Slots, StudyConfig
from study.progress.trial_cost import DataCost, Measured, NetworkCost
from study.search.pruner import make_pruner
from study.search.trial_counts import count_repeats, count_trials, num_finalists

LOG_BYTES_PER_TRIAL: Final = 12_000
LOG_BYTES_PER_EPOCH: Final = 3_700
"""Size of records, journal and the files of Ray Tune and TensorBoard, measured on small studies."""
CHECKPOINTS_PER_TRIAL: Final = 2
"""Checkpoints of a trial at the same time: `renalnet.nets.bundle` keeps the newest two."""


@dataclass(frozen=True)
class Disk:
    """Bytes of a results folder."""

    weights: int
    """Checkpoints and models of the best trials, and of all that run or are paused at once."""
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
    """Hours with the share of epochs that the pruner expects; None where it cannot predict one."""
    most_wall_s: float
    """Wall time if nothing is pruned."""
    expected_wall_s: float | None
    """Wall time with the share of epochs that the pruner expects; None where it cannot predict one."""
    disk: Disk
    """Size of the results folder."""


def forecast(config: StudyConfig, measured: Measured, slots: Slots) -> Forecast:
    """Return hours, wall time and disk space of a study, from measurements on one slot."""
    trial_s = _trial_seconds(config, measured)
    most_s = _run_seconds(config, trial_s)
    expected_s = _expected_seconds(config, trial_s)
    final_s, final_wall_s = final_seconds(config, measured, slots.num_slots)
    hours_per_s = (slots.real_gpus or slots.cpus) / 3600

    def wall_s(runs_s: float) -> float:
        # A trial is not divided between slots, so a study takes at least as long as its longest trial.
        return max(runs_s / slots.num_slots, *trial_s.values()) + final_wall_s

    return Forecast(
        num_trials=count_trials(config),
        trial_s=trial_s,
        most_hours=(most_s + final_s) * hours_per_s,
        expected_hours=None if expected_s is None else (expected_s + final_s) * hours_per_s,
        most_wall_s=wall_s(most_s),
        expected_wall_s=None if expected_s is None else wall_s(expected_s),
        disk=disk_bytes(config, measured, slots.num_slots),
    )


def _trial_seconds(config: StudyConfig, measured: Measured) -> dict[NetName, float]:
    # 0 means all of them.
    num_validation = config.train.max_validation_cases or measured.data.num_cases["validation"]
    return {name: trial_seconds(config, cost, num_validation) for name, cost in measured.networks.items()}


def _run_seconds(config: StudyConfig, trial_s: Mapping[NetName, float]) -> float:
    """Return the seconds of all trials and repeats if nothing is pruned."""
    searched_s = sum(number * trial_s[name] for name, number in count_trials(config).items())
    return searched_s + _repeat_seconds(config, trial_s)


def _expected_seconds(config: StudyConfig, trial_s: Mapping[NetName, float]) -> float | None:
    """Return the seconds of all trials and repeats with pruning; None where the pruner predicts no share."""
    pruner = make_pruner(config)
    searched_s = 0.0
    for name, number in count_trials(config).items():
        share = pruner.expected_share(number)
        if share is None:
            return None
        searched_s += number * trial_s[name] * share
    return searched_s + _repeat_seconds(config, trial_s)


def _repeat_seconds(config: StudyConfig, trial_s: Mapping[NetName, float]) -> float:
    # Repeats are never pruned, so the pruner's share does not apply to them.
    return sum(number * trial_s[name] for name, number in count_repeats(config).items())


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
    # The dense CRF is tuned on the validation cases only.
    total_s = (networks_s + crf_s) * num_validation + networks_s * num_test
    # A case is not divided between slots, so some of them may be idle in the last round.
    rounds, test_rounds = (math.ceil(number / num_slots) for number in (num_validation, num_test))
    return total_s, (networks_s + crf_s) * rounds + networks_s * test_rounds


def disk_bytes(config: StudyConfig, measured: Measured, num_slots: int) -> Disk:
    """Return the size of the results folder at its maximum, when all running trials have the largest network."""
    num_trials = sum(count_trials(config).values())
    return Disk(
        weights=_weight_bytes(config, measured.networks, min(num_slots + _num_paused(config), num_trials)),
        logs=num_trials * (LOG_BYTES_PER_TRIAL + config.train.epochs * LOG_BYTES_PER_EPOCH),
        masks=_mask_bytes(config, measured.data),
        data=measured.data.prepared_bytes,
    )


def _num_paused(config: StudyConfig) -> int:
    pruner = make_pruner(config)
    return sum(pruner.most_paused(number) for number in count_trials(config).values())


def _weight_bytes(config: StudyConfig, costs: Mapping[NetName, NetworkCost], num_unfinished: int) -> int:
    sizes = {name: CHECKPOINTS_PER_TRIAL * cost.checkpoint_bytes + cost.model_bytes for name, cost in costs.items()}
    repeats = count_repeats(config)
    kept = sum(
        # No weights of repeats are deleted: `kept_models` concerns the trials of the search only.
        (min(config.search.kept_models, number) + repeats[name]) * sizes[name]
        for name, number in count_trials(config).items()
    )
    best = config.final.seeds * costs[MAIN_NETWORK].model_bytes
    return kept + best + num_unfinished * max(sizes.values())


def _mask_bytes(config: StudyConfig, data: DataCost) -> int:
    num_finalists_of_all = num_finalists(config) + len(config.search.baselines)
    masks = num_finalists_of_all * (data.num_cases["validation"] + data.num_cases["test"]) * data.mask_bytes
    # A view holds the mask of one finalist per network, but only on the grid of the ROI: about half of the size.
    views = data.num_cases["test"] * (data.view_bytes + len(count_trials(config)) * data.mask_bytes // 2)
    return masks + views
