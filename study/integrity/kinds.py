"""The kinds of files in a results folder, told apart by their names relative to it."""

import re
from typing import Final

from study.records.results import (
    CURVES_TABLE,
    EFFECTS_TABLE,
    IMPORTANCES_TABLE,
    INTERACTIONS_TABLE,
    TRIALS_TABLE,
)

WEIGHTS: Final = re.compile(r"trials/(?P<trial>[^/]+)/(?P<file>model\.safetensors|config\.json)")
"""Weights of a trial, and the configuration with their checksum."""
BEST: Final = re.compile(r"best/(members/(?P<number>\d+)/)?(?P<file>[^/]+)")
"""Files of the winner's model bundle; `number` is absent for the first network."""
PRODUCT: Final = re.compile(
    r"final/(masks|roi_labels|signs)/(?P<method>[^/]+)/(?P<case>[^/]+)\.(nii\.gz|npz|json)"
    r"|final/parts/(validation|test)-(?P<part>.+)\.parquet"
)
"""What the final stage writes for one case of one finalist."""
SELECTION: Final = re.compile(r"final/selection(-\d+)?\.json")
"""The choice of the winner, and earlier choices."""
TABLES: Final = (
    TRIALS_TABLE,
    CURVES_TABLE,
    IMPORTANCES_TABLE,
    EFFECTS_TABLE,
    INTERACTIONS_TABLE,
    "final/metrics.parquet",
    "final/quality.parquet",
    "final/plan.parquet",
    "final/steps.json",
)
"""Tables that every run of a study makes of the other files."""
VIEW: Final = re.compile(r"final/views/[^/]+\.npz")
"""What the report shows of a test case."""
STEPS: Final = re.compile(r"final/steps/(?P<method>.+)-(?P<digest>[0-9a-f]{8})\.json")
"""The post-processing of a finalist."""


def is_derived(name: str) -> bool:
    """Whether every run of a study writes the file again."""
    return name in TABLES or VIEW.fullmatch(name) is not None


def case_of(name: str) -> tuple[str, str] | None:
    """Return finalist and case of a product; None for another file."""
    found = PRODUCT.fullmatch(name)
    if found is None:
        return None
    if found["part"] is None:
        return found["method"], found["case"]
    # Eight digits as in `Finalist.digest`; the name of a case may hold hyphens and digits, too, but comes later.
    parts = re.fullmatch(r"(.+?)-[0-9a-f]{8}-(.+)", found["part"])
    return (parts[1], parts[2]) if parts else None
