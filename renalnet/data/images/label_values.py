"""The meaning of label values: given by the value, by the user's label map, or by the name of a segment."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from renalnet.errors import ConfigError, InputError
from renalnet.types import BACKGROUND, KIDNEY, LABEL_NAMES, TUMOR, LabelArray

_ENTRY: Final = re.compile(r"\s*(\d{1,9})\s*=\s*([012])\s*")
_KIDNEY_WORDS: Final = frozenset(("kidney", "kidneys", "renal"))
_TUMOR_WORDS: Final = frozenset(
    ("tumor", "tumors", "tumour", "tumours", "mass", "masses", "lesion", "lesions", "neoplasm", "neoplasms")
)
_IGNORED_WORDS: Final = frozenset(("left", "right", "l", "r", "both", "of", "the", "in", "primary", "malignant"))
_KITS_CYST: Final = 3
"""Label of cysts in KiTS21 and KiTS23."""
_MAX_NAMED: Final = 5


def parse_label_map(text: str) -> dict[int, int]:
    """Return the label map that a text such as `3=1,4=0` states: source label to 0, 1 or 2.

    Raises:
        ConfigError: the text is not such a list, or contains a label twice.
    """
    mapped: dict[int, int] = {}
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry)
        if not match:
            raise ConfigError(f"label map '{text}': '{entry}' must read LABEL=0, LABEL=1 or LABEL=2, such as 3=1")
        source = int(match[1])
        if source in mapped:
            raise ConfigError(f"label map '{text}': label {source} appears twice; map it once")
        mapped[source] = int(match[2])
    return mapped


def to_classes(values: NDArray[Any], where: object, label_map: Mapping[int, int]) -> LabelArray:
    """Return the classes of label values of any type.

    Args:
        values: label values, of any shape.
        where: name of the file in error messages.
        label_map: classes of further values. It takes precedence over the standard meaning of 0, 1 and 2.

    Returns:
        0 background, 1 kidney, 2 tumor; the shape of `values`.

    Raises:
        InputError: a value is not in the label map and is not 0, 1 or 2.
    """
    # Later entries of a mapping win, so the label map may also swap 1 and 2.
    meaning = {**{label: label for label in LABEL_NAMES}, **label_map}
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
        raise InputError(f"{where}: {_unknown_values(unknown)}")
    return classes


def _unknown_values(unknown: Sequence[float]) -> str:
    first = unknown[0]
    others = f" (nor are {len(unknown) - 1} other values)" if len(unknown) > 1 else ""
    problem = f"label value {first:g} is none of 0 background, 1 kidney, 2 tumor{others}"
    if not (float(first).is_integer() and first > 0):
        return f"{problem}; relabel the file"
    cyst = " (label 3 of KiTS21 and KiTS23 is a cyst)" if first == _KITS_CYST else ""
    return f"{problem}{cyst}; state its meaning: --label-map {first:g}=1 (kidney), {first:g}=2 (tumor) or {first:g}=0"


def class_of_segment_name(name: str) -> int | None:
    """Return the class that the name of a segment states, or None if the name is ambiguous.

    Case is ignored. `Left kidney` gives 1 and `renal mass` gives 2. Every word of the name must be known, because
    otherwise a renal vein or a kidney cyst would become kidney, and a liver lesion would become tumor.
    """
    words = set(re.findall(r"[a-z]+", name.lower())) - _IGNORED_WORDS
    if not words or words - _KIDNEY_WORDS - _TUMOR_WORDS:
        return None
    return TUMOR if words & _TUMOR_WORDS else KIDNEY


def classes_of_segments(names: Mapping[int, str], where: object, label_map: Mapping[int, int]) -> dict[int, int]:
    """Return the class of each numbered segment: the one in `label_map`, otherwise the one that its name states.

    Raises:
        InputError: a segment is not in `label_map` and its name is neither kidney nor tumor. The message lists all
            such segments, and `where` names the file.
    """
    meaning = {number: label_map.get(number, class_of_segment_name(name)) for number, name in names.items()}
    unknown = [number for number, label in meaning.items() if label is None]
    if unknown:
        listed = ", ".join(f"{number} '{names[number]:.40}'" for number in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        raise InputError(
            f"{where}: not known to be kidney or tumor: segment {listed}{more}; state the meaning: "
            f"--label-map {unknown[0]}=1 (kidney), {unknown[0]}=2 (tumor) or {unknown[0]}=0 (neither)"
        )
    return {number: label for number, label in meaning.items() if label is not None}
