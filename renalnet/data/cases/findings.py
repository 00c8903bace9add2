"""Findings about a case or a cohort. Errors stop a preparation; warnings are counted and recorded in the store."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from renalnet.errors import RenalnetError

Level: TypeAlias = Literal["error", "warning"]
Code: TypeAlias = Literal[
    "no-label",
    "layout",
    "passed-over",
    "unreadable",
    "dicom-series",
    "spacing-range",
    "spacing-anisotropic",
    "spacing-pixels",
    "spacing-outlier",
    "few-slices",
    "image-constant",
    "hu-scale",
    "hu-8bit",
    "hu-offset",
    "hu-nonnegative",
    "hu-max",
    "hu-air",
    "hu-fat",
    "kidney-hu",
    "label-empty",
    "label-no-kidney",
    "label-shifted",
    "label-elsewhere",
    "label-fragments",
    "label-cut",
    "kidney-volume",
    "kidney-volume-outlier",
    "left-right",
    "mirrored",
    "tumor-volume",
    "tumor-detached",
    "duplicate-image",
    "duplicate-label",
    "duplicate-scan",
    "class-shares",
    "phase",
    "split-empty",
    "split-no-tumor",
    "split-few",
    "wrong-axes",
    "wrong-spacing",
    "not-ct",
    "hu-no-air",
]
"""Names of findings. They are stable, because other programs read them."""

COHORT: Final = "all cases"
"""Case name of a finding about the whole cohort. Such findings are always warnings."""


@dataclass(frozen=True)
class Finding:
    """A problem of a case or of the cohort."""

    case: str
    level: Level
    code: Code
    message: str
    """One line that states the problem, the value, the rule and the remedy."""

    def __str__(self) -> str:
        return f"{self.case}: {self.message}"


@dataclass(frozen=True)
class FindingGroup:
    """The findings of one code and level."""

    level: Level
    code: Code
    num_cases: int
    cases: tuple[str, ...]
    """Names of the first few cases."""
    message: str
    """Message of the first finding."""


def unreadable_case(case: str, error: RenalnetError) -> Finding:
    """Return the finding for a case that could not be read."""
    return Finding(case, "error", "unreadable", " ".join(str(error).split()))


def errors_by_case(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the error messages of each case that has errors, joined to one line, in order of appearance."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.level == "error":
            reasons[finding.case].append(finding.message)
    return {case: "; ".join(messages) for case, messages in reasons.items()}


def group_findings(findings: Iterable[Finding], num_named: int = 3) -> list[FindingGroup]:
    """Group findings by level and code: errors first, then the most frequent groups.

    Each group lists the names of its first `num_named` cases.
    """
    groups: defaultdict[tuple[Level, Code], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.level, finding.code].append(finding)
    ranked = sorted(groups.items(), key=lambda group: (group[0][0] != "error", -len(group[1]), group[0][1]))
    return [
        FindingGroup(level, code, len(group), tuple(finding.case for finding in group[:num_named]), group[0].message)
        for (level, code), group in ranked
    ]
