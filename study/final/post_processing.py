"""Choice of the post-processing on the validation cases: the parameters of each operation, and whether it is used.

Each finalist has its own post-processing, baselines included. The operations are chosen in their order. An operation
that lowers the mean tumor Dice of the validation cases is not used, and the study reports it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Final, TypeAlias

import optuna

from renalnet.config import LabelSet, parse
from renalnet.config.inference import OPERATIONS, OperationConfig
from renalnet.config.labels import TUMOR
from renalnet.evaluation.overlap import dice
from renalnet.inference.post_processing import NETWORK, Evidence, PostProcessing, apply_operation, post_process
from renalnet.types import LabelArray
from study.config.sections import FinalConfig
from study.final.case_jobs import FinalCase, Work, read_vote

AT_ONCE: Final = 8
"""Parameters that are drawn before the first of them is scored, so that a case's vote is read once for all of them."""


@dataclass(frozen=True)
class Scores:
    """Dice of a case, or its mean over cases."""

    dice: dict[str, float]
    """Dice of each label by its name, 0 to 1."""

    @classmethod
    def mean(cls, scores: Sequence["Scores"]) -> "Scores":
        """Return the mean over cases of one label set; at least one."""
        return cls({name: fmean(each.dice[name] for each in scores) for name in scores[0].dice})

    @property
    def tumor(self) -> float:
        """Tumor Dice, 0 to 1."""
        return self.dice[TUMOR]

    @property
    def objective(self) -> float:
        """Mean Dice of the labels, as in the search."""
        return sum(self.dice.values()) / len(self.dice)


@dataclass(frozen=True)
class ChosenPostProcessing:
    """The post-processing of a finalist, and the mean validation Dice by which it was chosen."""

    post_processing: PostProcessing
    """Operations with their parameters, and which of them are used."""
    network: Scores
    """Dice of the vote alone."""
    after: dict[str, Scores]
    """Dice after each operation with its best parameters, used or not, by its field in the configuration."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each operation that is not used because it lowered the tumor Dice."""
        lines = []
        before = self.network
        for name, section in self.post_processing.sections.items():
            after = self.after[name]
            # Each operation was compared with the mask after the operations that were already used.
            if name in self.post_processing.used:
                before = after
            elif after.tumor < before.tumor:
                lines.append(
                    f"{section.title} is off: validation tumor Dice {before.tumor:.3f} without, "
                    f"{after.tumor:.3f} with it"
                )
        return tuple(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the finalist's JSON file, which `chosen_from` reads."""
        chosen = self.post_processing
        return {
            **{name: section.model_dump(mode="json") for name, section in chosen.sections.items()},
            **{f"use_{name}": name in chosen.used for name in chosen.sections},
            "validation": {name: scores.dice for name, scores in {NETWORK: self.network, **self.after}.items()},
            "off": list(self.warnings),
        }


def chosen_from(values: Any) -> ChosenPostProcessing:
    """Return what `ChosenPostProcessing.to_json` wrote; operations that the file does not know are not used."""
    sections = {name: parse(section, values.get(name, {})) for name, section in OPERATIONS.items()}
    used = frozenset(name for name in sections if values.get(f"use_{name}"))
    scores = {name: Scores(dict(dice)) for name, dice in values["validation"].items()}
    network = scores[NETWORK]
    after = {name: scores.get(name, network) for name in sections}
    return ChosenPostProcessing(PostProcessing(sections, used), network, after)


@dataclass(frozen=True)
class ScoringJob:
    """Parameters of one operation to score on the kept vote of a case."""

    case: FinalCase
    used: tuple[OperationConfig, ...]
    """Operations that are applied before."""
    tried: tuple[OperationConfig, ...]
    """Parameters of the operation, each applied alone."""

    def __str__(self) -> str:
        return str(self.case)


def score_tried(job: ScoringJob) -> list[Scores]:
    """Return the Dice of the case after each of the tried parameters."""
    vote = read_vote(job.case).expanded()
    roi = job.case.roi()
    evidence = Evidence(vote.probability, roi.image, roi.spacing_mm, job.case.label_set)
    # Once for all tried parameters, because the slow dense CRF may be one of these operations.
    before = post_process(vote.labels, evidence, job.used)
    return [_scores(roi.label, apply_operation(before, evidence, section), job.case.label_set) for section in job.tried]


def _scores(truth: LabelArray, predicted: LabelArray, labels: LabelSet) -> Scores:
    return Scores({label.name: dice(truth == label.value, predicted == label.value) for label in labels.labels})


Score: TypeAlias = Callable[[Sequence[OperationConfig]], list[Scores]]
"""From parameters of an operation to the mean Dice over the cases after each of them."""
Tried: TypeAlias = list[tuple[OperationConfig, Scores]]


def choose_post_processing(
    cases: Sequence[FinalCase], config: FinalConfig, seed: int, work: Work
) -> ChosenPostProcessing:
    """Choose each operation in turn on the validation cases, whose votes must be kept.

    Args:
        cases: validation cases of one finalist; one or more.
        config: parameters from which the choice starts. With `tuning_trials` 0 they are not changed, and only whether
            each operation is used is chosen.
        seed: seed of the search.
        work: runs the jobs that score, one for each case.
    """

    def score(used: Iterable[OperationConfig], tried: Sequence[OperationConfig]) -> list[Scores]:
        jobs = [ScoringJob(case, tuple(used), tuple(tried)) for case in cases]
        by_case = list(work.apply(score_tried, jobs))
        return [Scores.mean(scores) for scores in zip(*by_case, strict=True)]

    # The vote alone is scored by an operation that is off.
    nothing = next(iter(config.operations.values())).switched(on=False)
    (network,) = score((), [nothing])
    before = network
    chosen: dict[str, OperationConfig] = {}
    after: dict[str, Scores] = {}
    used: dict[str, OperationConfig] = {}
    for name, section in config.operations.items():
        score_after = partial(score, tuple(used.values()))
        chosen[name], after[name] = _best(_try(section, config.tuning_trials, seed, score_after), section, before)
        if section.is_on and after[name].tumor >= before.tumor:
            used[name] = chosen[name]
            before = after[name]
    return ChosenPostProcessing(PostProcessing(chosen, frozenset(used)), network, after)


def _try(section: OperationConfig, num_trials: int, seed: int, score: Score) -> Tried:
    """Score the configured parameters, then others; nothing where the operation is off."""
    if not section.is_on:
        return []
    return _searched(section, num_trials, seed, score) if section.ranges else _options(section, num_trials, score)


def _searched(section: OperationConfig, num_trials: int, seed: int, score: Score) -> Tried:
    tried = list(zip([section], score([section]), strict=True))
    # The search asks for several points before it is told a result; the constant liar keeps them apart.
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=AT_ONCE)
    # In memory only: a choice that was killed starts again from the kept votes, and the seed repeats its draws.
    search = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {
        name: optuna.distributions.FloatDistribution(*bounds, log=True) for name, bounds in section.ranges.items()
    }
    # `tried` begins with the configured parameters, which `num_trials` does not count.
    while len(tried) <= num_trials:
        number = min(AT_ONCE, num_trials + 1 - len(tried))
        trials = [search.ask(distributions) for _ in range(number)]
        sections = [section.model_copy(update=trial.params) for trial in trials]
        for trial, drawn, scores in zip(trials, sections, score(sections), strict=True):
            search.tell(trial, scores.objective)
            tried.append((drawn, scores))
    return tried


def _options(section: OperationConfig, num_trials: int, score: Score) -> Tried:
    """Score the configured parameters first, so that they are kept among equals, then the options in their order."""
    options = section.options.items() if num_trials else ()
    sections = [section, *(section.model_copy(update={name: value}) for name, values in options for value in values)]
    return list(zip(sections, score(sections), strict=True))


def _best(tried: Tried, configured: OperationConfig, before: Scores) -> tuple[OperationConfig, Scores]:
    """Return the best objective among the parameters that do not lower the tumor Dice, else among all."""
    # Where every choice lowers it, the best one is still returned: the study names its Dice when the operation is off.
    harmless = [pair for pair in tried if pair[1].tumor >= before.tumor]
    # `max` returns the first of equals, so the configured parameters, tried first, are kept.
    return max(harmless or tried, key=lambda pair: pair[1].objective, default=(configured, before))
