"""The changes of a configuration with which a study may be resumed: longer, narrower, or with other resources."""

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from typing import Any, Final

from renalnet.config import label_set, parse
from renalnet.errors import ConfigError
from study.config.catalogue import SAMPLERS
from study.config.sections import SpaceConfig, StudyConfig

FREE: Final = (
    # Only a name: the values that it sets are compared themselves.
    "preset",
    "search.num_trials",
    "search.baseline_trials",
    "search.kept_models",
    "search.min_validation_cases",
    "resources",
    "train.checkpoint_every_s",
    "train.compile",
    "train.loader.memory_mb",
    "train.loader.workers",
    "train.loader.decoders",
    # The final stage measures again what its settings change, because they are in `Finalist.digest`.
    "final",
)
"""Keys or sections that do not affect trials that have run, so that their results stay comparable."""


def changes(before: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the value before and the value now of every key that differs, by `section.key`."""
    old = dict(_flat(before))
    new = dict(_flat(config))
    return {
        key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }


def refused_changes(before: Mapping[str, Any], config: StudyConfig) -> list[str]:
    """Return the changes that would mix trials of different studies, as text; empty if the study may be resumed.

    A key that an earlier version did not have has its default, because that version behaved like the default.
    """
    return [
        f"{key} {old} → {new}"
        for key, (old, new) in changes(_completed(before), config.model_dump(mode="json")).items()
        if not (_is_free(key) or _is_longer(key, old, new) or _is_narrower(key, before, config))
    ]


def _completed(before: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return parse(StudyConfig, before).model_dump(mode="json")
    except ConfigError:  # written by another version, with keys that are unknown here
        return before


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key == "labels":
            # The sections have the labels of the study, and only names and their order matter to trials.
            yield from () if prefix else [(key, ", ".join(label_set(value).names))]
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _is_free(key: str) -> bool:
    # With the dot, so that a longer name with the same beginning is not free.
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def _is_longer(key: str, old: Any, new: Any) -> bool:
    # Not shorter: finished trials go on to a later end (`study.search.extension`), but not back to an earlier one.
    return key == "train.epochs" and isinstance(old, int) and new > old


def _is_narrower(key: str, before: Mapping[str, Any], config: StudyConfig) -> bool:
    # Samplers are resolved here and not imported above, because they import Optuna. A narrower grid has other points.
    if not key.startswith("space.") or not resolve_name(SAMPLERS[config.search.sampler]).can_be_narrowed:
        return False
    try:
        return config.space.is_within(parse(SpaceConfig, before["space"]))
    except (ConfigError, KeyError):  # written by another version
        return False
