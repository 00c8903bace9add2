"""The steps behind the vote, settled on validation patients: the field's parameters by Optuna, and which steps help.

Each candidate has its own, baselines as well. A field that lowers the mean tumor Dice of the validation patients is
off, and so are components that do; the study says which.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, NamedTuple, TypeAlias

import optuna

from renalnet.config import ComponentsConfig, CrfConfig, parse
from renalnet.evaluation.overlap import dice
from renalnet.inference.components import keep_largest
from renalnet.inference.crf import refine
from renalnet.types import KIDNEY, TUMOR, LabelArray
from study.config.sections import FinalConfig
from study.final.case_jobs import FinalCase, PostProcessing, Work, read_ballot

AT_ONCE: Final = 8
"""Fields that are drawn before the first of them is judged: a patient's vote is read once for all of them."""
MIN_TUMOR_ML: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Tried beside the configured one, up to the smallest tumor of the paper's cohort, 2.11 ml."""
RANGES: Final = {
    "smooth_weight": (0.05, 3.0),
    "smooth_mm": (0.7, 4.0),
    "bilateral_weight": (0.05, 4.0),
    "bilateral_mm": (2.0, 8.0),
    "bilateral_hu": (10.0, 80.0),
}
"""Of the field, on a log scale; within the bounds of `CrfConfig`, so that a field stays fast."""


class Scores(NamedTuple):
    """Dice of a patient, or its mean over patients."""

    kidney: float
    tumor: float

    @property
    def objective(self) -> float:
        """Mean of both, as in the search."""
        return (self.kidney + self.tumor) / 2


@dataclass(frozen=True)
class SettledPostProcessing:
    """The steps of a candidate, and the mean validation Dice that settled them."""

    steps: PostProcessing
    network: Scores
    """The vote alone."""
    crf: Scores
    """Behind the best field, be it on or off."""
    components: Scores
    """Behind the best components too, be they on or off."""

    @property
    def words(self) -> tuple[str, ...]:
        """A line for each step that lowered the tumor Dice and is off."""
        before = self.crf if self.steps.use_crf else self.network
        return (
            *_off("the dense CRF", self.steps.use_crf, self.network, self.crf),
            *_off("connectivity", self.steps.use_components, before, self.components),
        )

    def to_json(self) -> dict[str, Any]:
        """For `settled_from`."""
        return {
            "crf": self.steps.crf.model_dump(mode="json"),
            "components": self.steps.components.model_dump(mode="json"),
            "use_crf": self.steps.use_crf,
            "use_components": self.steps.use_components,
            "validation": {name: getattr(self, name)._asdict() for name in ("network", "crf", "components")},
            "off": list(self.words),
        }


def settled_from(values: Any) -> SettledPostProcessing:
    """What `SettledPostProcessing.to_json` gave."""
    steps = PostProcessing(
        parse(CrfConfig, values["crf"]),
        parse(ComponentsConfig, values["components"]),
        values["use_crf"],
        values["use_components"],
    )
    return SettledPostProcessing(steps, **{name: Scores(**scores) for name, scores in values["validation"].items()})


def _off(step: str, is_on: bool, before: Scores, behind: Scores) -> tuple[str, ...]:
    if is_on or behind.tumor >= before.tumor:
        return ()
    return (f"{step} is off: validation tumor Dice {before.tumor:.3f} without, {behind.tumor:.3f} with it",)


@dataclass(frozen=True)
class TryJob:
    """Post-processing that is tried on the kept vote of a case."""

    patient: FinalCase
    fields: tuple[CrfConfig, ...]
    components: tuple[ComponentsConfig, ...]
    """Each tried behind each field."""

    def __str__(self) -> str:
        return str(self.patient)


def score_steps(job: TryJob) -> list[Scores]:
    """Dice behind each field and components, the components of the first field first."""
    vote, roi = read_ballot(job.patient).opened(), job.patient.roi()
    scores: list[Scores] = []
    for field in job.fields:
        refined = refine(vote.probability, roi.image, roi.spacing_mm, field)
        kept = (keep_largest(refined, roi.spacing_mm, components) for components in job.components)
        scores.extend(_scores(roi.label, labels) for labels in kept)
    return scores


def _scores(truth: LabelArray, labels: LabelArray) -> Scores:
    return Scores(*(dice(truth == label, labels == label) for label in (KIDNEY, TUMOR)))


Score: TypeAlias = Callable[[Sequence[CrfConfig], Sequence[ComponentsConfig]], list[Scores]]
"""Mean over the patients of what `score_steps` gives."""


def settle_post_processing(
    patients: Sequence[FinalCase], config: FinalConfig, seed: int, work: Work
) -> SettledPostProcessing:
    """Choose the field, then the components behind it, by the validation patients whose votes are kept.

    Args:
        patients: of one candidate; one or more.
        config: where the search begins; `tuning_trials` 0 takes it as it is, and judges only whether it helps.
        seed: of the search.
        work: who scores, a patient a job.
    """

    def score(fields: Sequence[CrfConfig], components: Sequence[ComponentsConfig]) -> list[Scores]:
        jobs = [TryJob(patient, tuple(fields), tuple(components)) for patient in patients]
        by_patient = list(work.apply(score_steps, jobs))
        return [Scores(*map(fmean, zip(*scores, strict=True))) for scores in zip(*by_patient, strict=True)]

    nothing = config.components.model_copy(update={"enabled": False})
    off = config.crf.model_copy(update={"iterations": 0})
    (network,) = score([off], [nothing])
    crf, behind_crf = _best_field(config, seed, lambda fields: score(fields, [nothing]), network)
    use_crf = crf.iterations > 0 and behind_crf.tumor >= network.tumor
    before = behind_crf if use_crf else network
    components, behind = _best_components(config, lambda tried: score([crf if use_crf else off], tried), before)
    use_components = components.enabled and behind.tumor >= before.tumor
    return SettledPostProcessing(PostProcessing(crf, components, use_crf, use_components), network, behind_crf, behind)


def _best_field(
    config: FinalConfig, seed: int, score: Callable[[Sequence[CrfConfig]], list[Scores]], network: Scores
) -> tuple[CrfConfig, Scores]:
    """The field of the best objective among those that do not lower the tumor Dice, else among all."""
    if not config.crf.iterations:
        return config.crf, network
    tried = list(zip([config.crf], score([config.crf]), strict=True))
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=AT_ONCE)
    search = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {name: optuna.distributions.FloatDistribution(*span, log=True) for name, span in RANGES.items()}
    while len(tried) <= config.tuning_trials:
        number = min(AT_ONCE, config.tuning_trials + 1 - len(tried))
        trials = [search.ask(distributions) for _ in range(number)]
        fields = [config.crf.model_copy(update=trial.params) for trial in trials]
        for trial, field, scores in zip(trials, fields, score(fields), strict=True):
            search.tell(trial, scores.objective)
            tried.append((field, scores))
    return _best(tried, network)


def _best_components(
    config: FinalConfig, score: Callable[[Sequence[ComponentsConfig]], list[Scores]], before: Scores
) -> tuple[ComponentsConfig, Scores]:
    """Likewise; of equal ones the configured, then the one that changes least."""
    if not config.components.enabled:
        return config.components, before
    least = MIN_TUMOR_ML if config.tuning_trials else ()
    options = [config.components, *(config.components.model_copy(update={"min_tumor_ml": ml}) for ml in least)]
    return _best(list(zip(options, score(options), strict=True)), before)


def _best(tried: Sequence[tuple[Any, Scores]], before: Scores) -> tuple[Any, Scores]:
    harmless = [pair for pair in tried if pair[1].tumor >= before.tumor]
    best: tuple[Any, Scores] = max(harmless or tried, key=lambda pair: pair[1].objective)
    return best
