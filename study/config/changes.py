"""What of a study's configuration may change on its way: it can be extended and narrowed, and hold other resources."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from renalnet.config import parse
from renalnet.errors import ConfigError
from study.config.sections import SpaceConfig, StudyConfig

FREE: Final = (
    "preset",
    "search.num_trials",
    "search.baseline_trials",
    "search.kept_models",
    "resources",
    "train.checkpoint_every_s",
    "train.compile",
    "train.loader.memory_mb",
    "train.loader.workers",
    "train.loader.decoders",
    "final",
)
"""Keys, or sections, whose values change no trial that has run."""


def changes(before: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Every key that differs, as `section.key`, with its value before and now."""
    old, new = dict(_flat(before)), dict(_flat(config))
    return {
        key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }


def refused_changes(before: Mapping[str, Any], config: StudyConfig) -> list[str]:
    """The changes that would mix trials of different studies, in words; empty where the study may go on.

    A key that an older version did not have counts as its default, which is what that version did.
    """
    return [
        f"{key} {old} → {new}"
        for key, (old, new) in changes(_completed(before), config.model_dump(mode="json")).items()
        if not (_is_free(key) or _is_longer(key, old, new) or _is_narrower(key, before, config))
    ]


def _completed(before: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return parse(StudyConfig, before).model_dump(mode="json")
    except ConfigError:  # it has keys that this version does not know
        return before


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def _is_longer(key: str, old: Any, new: Any) -> bool:
    return key == "train.epochs" and isinstance(old, int) and new > old


def _is_narrower(key: str, before: Mapping[str, Any], config: StudyConfig) -> bool:
    if not key.startswith("space.") or config.search.sampler == "grid":  # a narrower grid has other points
        return False
    try:
        return config.space.is_within(parse(SpaceConfig, before["space"]))
    except (ConfigError, KeyError):  # of another version
        return False
