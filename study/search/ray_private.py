"""What a study needs from inside Ray Tune; no other module relies on it. Written for Ray 2.60.

Ray's rules are made for trials in a running experiment. Here they are called without an experiment, with stand-ins for
trials, so that their memory can be rebuilt from records and replayed on recorded curves. The controller is None: the
rules use it only to pause trials, which the study's rules never do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

CONTROLLER_LOGGER: Final = "ray.tune.execution.tune_controller"
"""Name of the logger on which Tune reports a lost trial with Ray's whole traceback."""


# Ray's median rule finds a trial by equality and hash, which a frozen class has.
@dataclass(frozen=True)
class _StandIn:
    """The part of a Ray trial that rules read.

    Ray's own identity of a trial changes when a study is resumed; the trial's name does not.
    """

    trial_id: str


def add(rule: TrialScheduler, name: str) -> None:
    """Tell a rule of a new trial."""
    rule.on_trial_add(None, _StandIn(name))


def judge(rule: TrialScheduler, name: str, result: Mapping[str, Any]) -> str:
    """Return a rule's decision on a result, `CONTINUE` or `STOP`; the rule remembers the result."""
    return str(rule.on_trial_result(None, _StandIn(name), result))


def complete(rule: TrialScheduler, name: str, result: Mapping[str, Any]) -> None:
    """Give a rule the last result of a trial."""
    rule.on_trial_complete(None, _StandIn(name), result)


def rungs_of(rule: TrialScheduler) -> dict[int, dict[str, float]]:
    """Return, for each rung's age, the value with which each trial reached the rung; empty without rungs.

    Ray has no public access to the rungs; `debug_string` prints their cutoffs only.
    """
    if not isinstance(rule, ASHAScheduler):
        return {}
    # The study's rules have one bracket only.
    return {int(age): dict(values) for age, values in rule._brackets[0]._rungs}
