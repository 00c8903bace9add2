"""The table of an ablation: what each part of the method is worth, and what it costs.

`python -m study.bench parts` writes it as CSV, and `renalnet describe` shows it.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from pydantic import TypeAdapter, ValidationError

from renalnet.config.section import problem_of
from renalnet.errors import InputError
from renalnet.types import Split

Choice: TypeAlias = Literal[
    "pyramid pooling",
    "gradually enhanced features",
    "dilation",
    "number of poolings",
    "class weights",
    "distance of slices",
    "stitching",
    "dense CRF",
    "connectivity",
]
"""A choice of the method, which the ablation makes in other ways."""
ALL_CASES: Final = "all cases"
"""Title of all cases of a split."""
OWN_TABLE: Final = Path(__file__).parents[2] / "results" / "evidence" / "parts" / "parts.csv"
"""Table of the project's own ablation, in a checkout that has one."""


@dataclass(frozen=True, kw_only=True)
class PartEffect:
    """Effect of one part on some cases: mean paired differences to the reference, with intervals of 95 %."""

    part: str
    """Name of the part."""
    choice: Choice
    """The choice that the part makes in another way."""
    title: str
    """What the part changes, for people."""
    split: Split
    cases: str
    """Title of the subset of the split's cases."""
    num_patients: int
    """Patients with a tumor, over which the Dice of tumor and kidney are compared."""
    num_seeds: int
    is_chosen: bool
    """Whether the part has the highest mean objective of its choice on the validation cases, the reference included."""
    reference_tumor: float
    """Mean tumor Dice of the reference over these patients and the seeds, 0 to 1."""
    tumor: float
    """Difference of the tumor Dice over the patients with a tumor; positive where the part is better."""
    tumor_low: float
    tumor_high: float
    kidney: float
    """Difference of the kidney Dice over the same patients."""
    kidney_low: float
    kidney_high: float
    objective: float
    """Difference of the mean Dice of kidney and tumor over all patients of the subset, also those without a tumor."""
    objective_low: float
    objective_high: float
    step_s: float
    """Time of a training step; the median over epochs and seeds."""
    reference_step_s: float
    case_s: float
    """Time of inference and post-processing a case."""
    reference_case_s: float
    memory_mb: float
    """Mebibytes of activations kept for the backward pass of a batch, in float32."""
    reference_memory_mb: float
    num_parameters: int
    reference_num_parameters: int


def read_effects(path: Path) -> list[PartEffect]:
    """Read the table of an ablation.

    Raises:
        InputError: the file cannot be read, or is no such table.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return TypeAdapter(list[PartEffect]).validate_python(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); name the CSV file of an ablation") from error
    except ValidationError as error:
        raise InputError(f"{path}: no table of an ablation ({problem_of(error)}); name the CSV file of one") from error


def worth_lines(effects: Sequence[PartEffect]) -> list[str]:
    """Return a line for each choice: the difference of the tumor Dice of its parts on all test cases.

    Args:
        effects: of any splits and subsets; empty where nothing is measured.
    """
    shown = [effect for effect in effects if (effect.split, effect.cases) == ("test", ALL_CASES)]
    lines = []
    for choice in get_args(Choice):
        parts = [_part_text(effect) for effect in shown if effect.choice == choice]
        lines.append(f"{choice}: {'; '.join(parts) or 'not measured'}")
    return lines


def _part_text(effect: PartEffect) -> str:
    return f"{effect.title} {interval_text(effect.tumor, effect.tumor_low, effect.tumor_high)}"


def interval_text(mean: float, low: float, high: float) -> str:
    """Return a difference and its interval for people, as `+0.012 (-0.003 to +0.027)`."""
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
