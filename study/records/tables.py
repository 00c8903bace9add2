"""The tables of a results folder: one dataclass for each, used to write the file and to read it.

The fields are the columns, in their order. A field with a default may be null in a file, or its column may be missing,
as in files of earlier versions. To add a column, add a field with a default and fill it where the row is made.
"""

import json
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from renalnet.config.label_columns import by_label
from renalnet.evaluation.mask_quality import Signs
from renalnet.evaluation.rows import LabelMeasures
from renalnet.planning.rows import SheetMeasures
from study.records.parquet import MAY_BE_ABSENT

Role: TypeAlias = Literal["winner", "paper", "baseline", "appendix", "rule", "added"]
"""What a method is in the report."""
WINNER: Final = "winner"
PAPER: Final = "paper"
"""Role of the finalist with the paper's values, where it is not the winner."""
BASELINE: Final = "baseline"
APPENDIX: Final = "appendix"
"""Role of the finalists of the winner's network that were not chosen."""
RULE: Final = "rule"
"""Role of an intensity rule."""
ADDED: Final = "added"
"""Role of another program whose masks were given with `--add`."""
TRUTH: Final = "truth"
"""Source of a planning sheet that measures the true label map."""
PREDICTION: Final = "prediction"
"""Source of a planning sheet that measures the winner's mask."""


@dataclass(frozen=True)
class Trial:
    """A row of `trials.parquet`: a trial of the search, or a repeat of a finalist."""

    trial: int
    """Number of the trial within its network, from 0; a repeat has the number of its finalist."""
    name: str
    """Name of its folder, such as `fcn_ppm-0003`."""
    network: str
    """Key of the network."""
    state: str
    """`running`, `complete`, `pruned` or `failed`."""
    objective: float | None = None
    """Objective of the best epoch; None before an epoch has ended."""
    dice: dict[str, float | None] = by_label("dice_{}")
    """Dice of each label after the best epoch, mean over validation cases, 0 to 1, such as `dice_tumor`."""
    best_epoch: int | None = None
    """The epoch with the highest objective, from 1."""
    epochs: int = 0
    """Epochs that were trained."""
    planned_epochs: int = 0
    """Epochs that the trial trains unless it is pruned."""
    seconds: float = 0.0
    """Time of all its epochs."""
    gpu_hours: float = 0.0
    """Hours of its epochs times its GPUs."""
    cpu_hours: float = 0.0
    """Hours of its epochs times its processors."""
    reason: str = ""
    """Why it ended."""
    is_paper_point: bool = False
    """Whether it is the first trial and has the paper's class weights and milestones."""
    ppm_kernels: str = ""
    """Pooling kernels, such as `1-2-4-8`; empty where they were not searched."""
    weights: dict[str, float | None] = by_label("weight_{}")
    """Class weight of each label and of `background`, such as `weight_tumor`."""
    milestones: str = ""
    """Epochs after which the learning rate drops, such as `3-5-7`."""
    config: str = ""
    """JSON of the training configuration."""
    repeat_of: str = ""
    """Name of the finalist that is repeated; empty for a trial of the search."""
    seed: int | None = None
    """Seed of the run; on a fold also the seed by which cases are dealt to folds."""
    fold: int | None = None
    """Fold of which the cases are validated on, from 0; None for a run on the store's own splits."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A row of `curves.parquet`: what a run reported after an epoch."""

    trial: int
    """As in `Trial`, like the next five."""
    name: str
    network: str
    repeat_of: str = ""
    seed: int | None = None
    fold: int | None = None
    # It has no default but follows columns with one, which is why the class takes keywords only.
    epoch: int
    """Number of the epoch, from 1."""
    loss: float | None = None
    """Mean loss of the epoch's steps."""
    dice: dict[str, float | None] = by_label("dice_{}")
    """Dice of each label, mean over validation cases, 0 to 1, such as `dice_tumor`."""
    objective: float | None = None
    """Mean of `dice`."""
    learning_rate: float | None = None
    """Learning rate of this epoch."""
    seconds: float = 0.0
    """Time of training and validation."""
    data_wait_share: float = 0.0
    """Share of the training time spent waiting for batches, 0 to 1."""
    voxels_per_s: float = 0.0
    """Voxels of crops trained on per second."""


IMPORTANCE_LEVEL: Final = 0.02
"""Chance to call any parameter of a study important if none is."""
IMPORTANCE_CONFIDENCE: Final = 0.95
"""Level of the intervals of importances and effects."""
IMPORTANT: Final = "important"
"""Verdict on a parameter that explains more of the objective than chance does."""
NOT_IMPORTANT: Final = "not shown to be important"
"""Verdict on a parameter that explains no more than chance may. It may still matter."""


@dataclass(frozen=True)
class Importance:
    """A row of `importances.parquet`: how much of the objective of a network a searched parameter explains."""

    network: str
    """Key of the network."""
    evaluator: str
    """Name of the method."""
    num_trials: int
    """Trials that it compared."""
    parameter: str
    """Name of the searched parameter."""
    importance: float | None = None
    """Share of the objective's variation, 0 to 1, that the parameter explains by itself; None without enough trials."""
    low: float | None = None
    """95 % interval of the importance when trials are drawn with replacement."""
    high: float | None = None
    p_value: float | None = None
    """Chance of as high an importance of any parameter of the study if the objective depended on none."""
    needed_trials: int | None = None
    """Trials from which on importances are computed."""
    # Files of earlier versions lack this column and the four above it.
    verdict: str = ""
    """`important`, `not shown to be important`, `not enough trials: 7 of 20`, or why it was not compared; empty in
    files of earlier versions, whose importances rest on few trials and were not tested."""


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """The mean objective of some trials and its interval."""

    mean_objective: float | None = None
    """Mean objective of the trials; None without trials."""
    low: float | None = None
    """95 % interval of the mean, by Student's t; None for fewer than three trials."""
    high: float | None = None
    num_trials: int
    """Trials that trained all their epochs."""


@dataclass(frozen=True, kw_only=True)
class _EffectPlace:
    """The columns before the mean in `Effect`."""

    network: str
    """Key of the network."""
    parameter: str
    """Name of the searched parameter."""
    group: str
    """The option, the number, or the third, such as `0.5 to 1.9`."""
    group_low: float | None = None
    """Lowest and highest value of these trials; None for an option, which has no order."""
    group_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Effect(_Mean, _EffectPlace):
    """A row of `effects.parquet`: the objective of trials with one option, or a third of the values, of a parameter.

    Only networks with enough trials for importances have rows.
    """

    num_pruned: int
    """Pruned trials with such a value. They are not in the mean: their objectives are of earlier epochs."""


@dataclass(frozen=True, kw_only=True)
class _CellPlace:
    """The columns before the mean in `InteractionCell`."""

    network: str
    """Key of the network."""
    first: str
    """Name of the most important parameter."""
    second: str
    """Name of the next one."""
    first_group: str
    """Option, number or third of the first parameter, as in `Effect`."""
    second_group: str
    """Likewise of the second one."""


@dataclass(frozen=True, kw_only=True)
class InteractionCell(_Mean, _CellPlace):
    """A row of `interactions.parquet`: the objective of trials by the values of the two most important parameters.

    Only networks with at least two important parameters have rows.
    """

    share: float | None = None
    """Share of the objective's variation, 0 to 1, that both explain together beyond the sum of their effects; the same
    in all rows of a network. None where the trials do not suffice."""
    p_value: float | None = None
    """Chance of as high a share if the effects of both add up; likewise."""


@dataclass(frozen=True, kw_only=True)
class _StagePlace:
    """The columns before the measures in `StageMeasurement`."""

    case: str
    split: str
    """`validation` or `test`."""
    network: str
    """Key of the network, name of the intensity rule, or name of another program."""
    checkpoint: str = ""
    """Name of the finalist; empty for a method without a network."""
    stage: str
    """`network`, `crf`, `connectivity`, `crf_connectivity` or `final`."""


@dataclass(frozen=True, kw_only=True)
class StageMeasurement(LabelMeasures, _StagePlace):
    """A row of a file in `final/parts`: the measures of one label of one case after one stage of inference.

    Fields are collected from the last base class to the first, so the columns of `_StagePlace` come first.
    """


@dataclass(frozen=True, kw_only=True)
class Measurement(StageMeasurement):
    """A row of `metrics.parquet`: a row of `final/parts` and the role of its method."""

    role: Role
    """`winner`, `paper` (the paper's values), `baseline`, `appendix` (other finalists), `rule` or `added`."""


@dataclass(frozen=True, kw_only=True)
class _MaskPlace:
    """The columns before the signs in `Quality`."""

    case: str
    split: str
    checkpoint: str = ""


@dataclass(frozen=True, kw_only=True)
class Quality(Signs, _MaskPlace):
    """A row of `quality.parquet`: the signs of quality of the winner's mask, and the tumor Dice expected from them."""

    agreement: float | None = field(default=None, metadata=MAY_BE_ABSENT)
    """Mean tumor Dice with the masks of the other finalists of the network; None where there are none."""
    expected_dice: float
    """Tumor Dice, 0 to 1, expected from the signs; for a validation case, estimated from the other ones."""
    expected_error: float
    """Mean absolute error of the estimate over the validation cases."""
    num_known: int
    """Validation cases that the estimate is learned from."""


@dataclass(frozen=True, kw_only=True)
class _SheetPlace:
    """The columns before the measures in `PlanningSheet`."""

    case: str
    checkpoint: str = ""
    """Name of the winner."""
    source: str
    """`TRUTH` or `PREDICTION`: the mask that was measured."""


@dataclass(frozen=True, kw_only=True)
class PlanningSheet(SheetMeasures, _SheetPlace):
    """A row of `plan.parquet`: the planning sheet of a kidney, by the truth or by the winner's mask."""

    # Text, because pyarrow 26 cannot write mappings without keys, and gives every row the keys of all rows.
    spread: str = "{}"
    """JSON: lowest and highest value of each measure over the masks of the finalists of the winner's network."""
    warnings: str = ""
    """Lines on measures that no real kidney has, separated by semicolons; empty for a plausible mask."""

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value, by measure, of the measures that differ between these masks."""
        return {name: (low, high) for name, (low, high) in json.loads(self.spread).items()}
