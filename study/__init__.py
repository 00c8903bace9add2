"""The search: Ray Tune and Optuna over renalnet's training runs, the final stage, and the report.

`Results` opens a results folder from Python; `docs/python-api.md` shows it in use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.records.results import Results

__all__ = ["Results"]


def __getattr__(name: str) -> Any:
    """Import the public name when it is first used, so that the commands of `study` start quickly."""
    if name not in __all__:
        raise AttributeError(f"module 'study' has no attribute '{name}'")
    return import_module("study.records.results").Results
