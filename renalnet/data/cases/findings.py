"""What is wrong with a case or a cohort: errors stop a preparation, warnings are counted and travel with it."""

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
    "label-fragments",
    "label-cut",
    "kidney-volume",
    "kidney-volume-outlier",
    "left-right",
    "tumor-volume",
    "tumor-detached",
    "duplicate-image",
    "duplicate-label",
    "duplicate-scan",
    "class-shares",
    "phase",
    "split-empty",
    "split-no-tumor",
]
"""Stable names, for programs that read findings."""

COHORT: Final = "all cases"
"""Stands for the case where a finding is about the cohort; only warnings are."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with a case, or with the cohort."""

    case: str
    level: Level
    code: Code
    message: str
    """One line: what, value, rule, remedy."""

    def __str__(self) -> str:
        return f"{self.case}: {self.message}"


@dataclass(frozen=True)
class FindingGroup:
    """All findings of one code and level."""

    level: Level
    code: Code
    num_cases: int
    cases: tuple[str, ...]
    """The first few."""
    message: str
    """The first one's."""


def unreadable(case: str, error: RenalnetError) -> Finding:
    """The finding for a case that could not be read."""
    return Finding(case, "error", "unreadable", " ".join(str(error).split()))


def split_bad(findings: Iterable[Finding]) -> dict[str, str]:
    """The cases that have errors, in order of appearance, with their reasons joined to a line."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.level == "error":
            reasons[finding.case].append(finding.message)
    return {case: "; ".join(messages) for case, messages in reasons.items()}


def group_findings(findings: Iterable[Finding], num_named: int = 3) -> list[FindingGroup]:
    """Findings by level and code, errors first, then the most frequent; each names its first few cases."""
    groups: defaultdict[tuple[Level, Code], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.level, finding.code].append(finding)
    ranked = sorted(groups.items(), key=lambda group: (group[0][0] != "error", -len(group[1]), group[0][1]))
    return [
        FindingGroup(level, code, len(group), tuple(finding.case for finding in group[:num_named]), group[0].message)
        for (level, code), group in ranked
    ]
