"""The meaning of label values: given by the value, by the user's label map, or by the name of a segment."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.config import Label, LabelSet
from renalnet.config.labels import LABEL_SETS
from renalnet.errors import ConfigError, InputError
from renalnet.types import BACKGROUND, LabelArray

_ENTRY: Final = re.compile(r"\s*(\d{1,9})\s*=\s*(\d{1,2})\s*")
_WORD: Final = re.compile(r"[a-z]+|[0-9]+")
_IGNORED_WORDS: Final = frozenset(("left", "right", "l", "r", "both", "of", "the", "in", "primary", "malignant"))
_KITS_CYST: Final = 3
"""Label of cysts in KiTS21 and KiTS23."""
_MAX_NAMED: Final = 5


def parse_label_map(text: str, labels: LabelSet) -> dict[int, int]:
    """Return the label map that a text such as `3=1,4=0` states: source label to 0 or a value of `labels`.

    Raises:
        ConfigError: the text is not such a list, or contains a label twice.
    """
    mapped: dict[int, int] = {}
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry)
        if not match or int(match[2]) >= labels.num_classes:
            allowed = ", ".join(f"LABEL={value}" for value in range(len(labels)))
            raise ConfigError(f"label map '{text}': '{entry}' must read {allowed} or LABEL={len(labels)}, such as 3=1")
        source = int(match[1])
        if source in mapped:
            raise ConfigError(f"label map '{text}': label {source} appears twice; map it once")
        mapped[source] = int(match[2])
    return mapped


def to_classes(values: NDArray[Any], where: object, labels: LabelSet, label_map: Mapping[int, int]) -> LabelArray:
    """Return the classes of label values of any type.

    Args:
        values: label values, of any shape.
        where: name of the file in error messages.
        labels: the label set, whose values keep their meaning.
        label_map: classes of further values. It takes precedence over the label set.

    Returns:
        0 and values of `labels`; the shape of `values`.

    Raises:
        InputError: a value is neither in the label map nor in the label set.
    """
    # Later entries of a mapping win, so the label map may also swap 1 and 2.
    meaning = {**{value: value for value in range(labels.num_classes)}, **label_map}
    classes = np.zeros(values.shape, np.uint8)
    num_known = 0
    for source, target in meaning.items():
        is_source = values == source
        num_known += int(np.count_nonzero(is_source))
        if target != BACKGROUND:
            classes[is_source] = target
    # Counting is cheap; the values are sorted for the message only if there is an unknown one.
    if num_known < values.size:
        unknown = np.unique(values[~np.isin(values, list(meaning))]).tolist()
        raise InputError(f"{where}: {_unknown_values(unknown, labels)}")
    return classes


def _unknown_values(unknown: Sequence[float], labels: LabelSet) -> str:
    first = unknown[0]
    others = f" (nor are {len(unknown) - 1} other values)" if len(unknown) > 1 else ""
    problem = f"label value {first:g} is none of {', '.join(_listed(labels))}{others}"
    if not (float(first).is_integer() and first > 0):
        return f"{problem}; relabel the file"
    cyst = " (label 3 of KiTS21 and KiTS23 is a cyst)" if first == _KITS_CYST else ""
    return (
        f"{problem}{cyst}; state its meaning: {_mapped(int(first), labels)} or {first:g}=0{set_with(unknown, labels)}"
    )


def value_rule(labels: LabelSet) -> str:
    """Return the values of a set for messages, such as `0 background, 1 kidney or 2 tumor`."""
    *others, last = _listed(labels)
    return f"{', '.join(others)} or {last}"


def set_with(unknown: Sequence[float], labels: LabelSet) -> str:
    """Return the end of a message that names the built-in sets with values that `labels` lacks; empty for none."""
    return _choice(known for known in LABEL_SETS.values() if len(labels) < max(unknown) <= len(known))


def _choice(sets: Iterable[LabelSet]) -> str:
    return "".join(f", or choose the label set that has it: --set labels={each.name}" for each in sets)


def _listed(labels: LabelSet) -> list[str]:
    return [f"{value} {name}" for value, name in enumerate(labels.class_names)]


def _mapped(value: int, labels: LabelSet) -> str:
    """Return the label maps that give a value the meaning of a label."""
    return "--label-map " + ", ".join(f"{value}={label.value} ({label.name})" for label in labels.labels)


def class_of_segment_name(name: str, labels: LabelSet) -> int | None:
    """Return the class that the name of a segment states, or None if the name is ambiguous.

    Case is ignored. `Left kidney` is the kidney and `renal mass` the tumor. Every word of the name must be known,
    because otherwise a renal vein would become kidney, and a liver lesion would become tumor.
    """
    words = set(_WORD.findall(name.lower()))
    meant = {label: found for label in labels.labels if (found := _words_of(label, words))}
    unknown = words.difference(_IGNORED_WORDS, *meant.values())
    if any(not word.isdigit() for word in unknown):
        return None
    organs = {label.lesion_of for label in meant}
    own = [label.value for label in meant if label.name not in organs and not _is_part(label, meant)]
    return own[0] if len(own) == 1 else None


def _words_of(label: Label, words: set[str]) -> set[str]:
    """Return those of some words that mean a label: its own name as a whole, and each of its other words."""
    name = set(_WORD.findall(label.name))
    return words & (name.union(label.words) if name <= words else set(label.words))


def _is_part(label: Label, meant: Mapping[Label, set[str]]) -> bool:
    """Return whether a label is meant only by a part of another one's name, as the kidney by a `renal_vein`."""
    return any(meant[label] <= set(_WORD.findall(other.name)) for other in meant if other != label)


def classes_of_segments(
    names: Mapping[int, str], where: object, labels: LabelSet, label_map: Mapping[int, int]
) -> dict[int, int]:
    """Return the class of each numbered segment: the one in `label_map`, otherwise the one that its name states.

    Raises:
        InputError: a segment is not in `label_map` and its name is not that of a label. The message lists all such
            segments, and `where` names the file.
    """
    meaning = {number: label_map.get(number, class_of_segment_name(name, labels)) for number, name in names.items()}
    unknown = [number for number, label in meaning.items() if label is None]
    if unknown:
        listed = ", ".join(f"{number} '{names[number]:.40}'" for number in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        neither = "neither" if len(labels) == 2 else "none of them"
        raise InputError(
            f"{where}: not known to be {' or '.join(labels.names)}: segment {listed}{more}; state the meaning: "
            f"{_mapped(unknown[0], labels)} or {unknown[0]}=0 ({neither})"
            f"{_sets_with_names([names[number] for number in unknown])}"
        )
    return {number: label for number, label in meaning.items() if label is not None}


def _sets_with_names(names: Sequence[str]) -> str:
    """Return the end of a message that names the built-in sets which have all these segments; empty for none."""
    return _choice(
        known for known in LABEL_SETS.values() if all(class_of_segment_name(name, known) is not None for name in names)
    )
