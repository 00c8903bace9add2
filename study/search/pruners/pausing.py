"""Successive halving that pauses trials instead of ending them (the promotions of ASHA; Li et al., 2020)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.search.pruner import AGE, BEST
from study.search.pruners.halving import Halving


class PausingRule(FIFOScheduler):
    """Notes the value with which each trial reaches a rung, and pauses it there."""

    def __init__(self, ages: Collection[int]) -> None:
        """Start with no trial.

        Args:
            ages: ages of the rungs.
        """
        super().__init__()
        self.rungs: dict[int, dict[str, float]] = {age: {} for age in sorted(ages)}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Return `PAUSE` at a rung, else `CONTINUE`."""
        rung = self.rungs.get(result[AGE])
        if rung is None:
            return str(TrialScheduler.CONTINUE)
        rung[trial.trial_id] = result[BEST]
        return str(TrialScheduler.PAUSE)

    def debug_string(self) -> str:
        """Return the number of trials that reached each rung."""
        reached = ", ".join(f"age {age}: {len(values)}" for age, values in self.rungs.items())
        return f"pausing successive halving; trials at the rungs: {reached or 'no rung'}"


class Pausing(Halving):
    """Successive halving in which every trial pauses at each rung, and goes on when it is among the best there.

    The quota of a rung grows with each trial that reaches it, so a trial that pauses early can still go on later. A
    trial ends for good when it is beyond the largest quota that its rung can get. At the end of the search, the best
    paused trials go on until the final stage has all its finalists.
    """

    def new_rule(self) -> PausingRule:
        """Return a rule with the rungs of every first milestone in the space."""
        first, last = self.config.space.first_step
        return PausingRule({age for milestone in range(first, last + 1) for age in self.ages(milestone)})

    def rungs(self, rule: TrialScheduler) -> dict[int, dict[str, float]]:
        """Return, for each rung's age, the value with which each trial reached it."""
        return {age: dict(values) for age, values in _rungs(rule).items()}

    def next_paused(self, rule: TrialScheduler, paused: Collection[str], *, has_quota: bool = True) -> str | None:
        """Return the best paused trial of the highest rung; with `has_quota`, of those within their rung's quota."""
        for age, values in reversed(_rungs(rule).items()):
            quota = len(values) // self.config.search.reduction_factor if has_quota else len(values)
            within = [name for name in ranked(values)[:quota] if name in paused and _last_rung(rule, name) == age]
            if within:
                return within[0]
        return None

    def hopeless(self, rule: TrialScheduler, paused: Collection[str], num_trials: int) -> list[str]:
        """Return the paused trials that no further trial can bring into a quota.

        Values at a rung only become more, so the rank of a trial never gets better.
        """
        found: list[str] = []
        for (age, values), quota in zip(_rungs(rule).items(), self._largest_quotas(rule, num_trials), strict=True):
            found += [name for name in ranked(values)[quota:] if name in paused and _last_rung(rule, name) == age]
        return found

    def most_paused(self, num_trials: int) -> int:
        """Return the sum of the largest quotas: any other trial is pruned."""
        return min(sum(self._largest_quotas(self.new_rule(), num_trials)), num_trials)

    def describe_rungs(self, ages: str, share: str) -> str:
        """Return when trials pause, and which ones go on."""
        return (
            f"trials pause {ages} epochs after their first milestone; the best {share} of a network's trials continue"
        )

    def share_at(self, num_trials: int, rung_epochs: Sequence[int]) -> float:
        """Return `promoted_share`."""
        search = self.config.search
        return promoted_share(num_trials, self.config.train.epochs, rung_epochs, search.reduction_factor)

    def _largest_quotas(self, rule: TrialScheduler, num_trials: int) -> list[int]:
        """Return the quota of each rung when all trials have reached it that can."""
        quotas = [num_trials]
        for _ in _rungs(rule):
            # One more, because the paper's point passes every rung.
            quotas.append(quotas[-1] // self.config.search.reduction_factor + 1)
        return quotas[1:]


def ranked(values: Mapping[str, float]) -> list[str]:
    """Return names by descending value; of equal ones, the first by name comes first."""
    return sorted(values, key=lambda name: (-values[name], name))


def promoted_share(num_trials: int, num_epochs: int, rung_epochs: Sequence[int], reduction_factor: int) -> float:
    """Return the fraction of all epochs that trials train if each rung passes the best 1/`reduction_factor` of them.

    Args:
        num_trials: trials of the network, 1 or more.
        num_epochs: epochs of a trial that goes on to its end.
        rung_epochs: epochs at which trials of one first milestone reach the rungs.
        reduction_factor: inverse of the share that passes.
    """
    left = num_trials
    trained = 0
    begun = 0
    for rung in rung_epochs:
        trained += left * (rung - begun)
        left //= reduction_factor
        begun = rung
    return (trained + left * (num_epochs - begun)) / (num_trials * num_epochs)


def _rungs(rule: TrialScheduler) -> dict[int, dict[str, float]]:
    """Return the rungs of a rule that `Pausing.new_rule` made, by ascending age."""
    assert isinstance(rule, PausingRule)
    return rule.rungs


def _last_rung(rule: TrialScheduler, name: str) -> int:
    return max(age for age, values in _rungs(rule).items() if name in values)
