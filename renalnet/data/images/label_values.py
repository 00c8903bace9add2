"""What labels mean: by their values, by a map that the user gives, or by the words that name a segment."""

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
_PLACE_WORDS: Final = frozenset(("left", "right", "l", "r", "both", "of", "the", "in", "primary", "malignant"))
_MAX_NAMED: Final = 5


def parse_label_map(text: str) -> dict[int, int]:
    """A map of source labels to 0 background, 1 kidney, 2 tumor from words such as `3=1,4=0`.

    Raises:
        ConfigError: the text is no such list, or names a label twice.
    """
    mapped: dict[int, int] = {}
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry)
        if not match:
            raise ConfigError(f"label map '{text}': '{entry}' must read LABEL=0, LABEL=1 or LABEL=2, such as 3=1")
        source, target = int(match[1]), int(match[2])
        if source in mapped:
            raise ConfigError(f"label map '{text}': label {source} comes twice; map it once")
        mapped[source] = target
    return mapped


def to_classes(values: NDArray[Any], where: object, label_map: Mapping[int, int]) -> LabelArray:
    """A label image of any type as classes; `label_map` decides first, and 0, 1, 2 mean themselves.

    Raises:
        InputError: a value is neither mapped nor one of 0, 1, 2; `where` names the file.
    """
    meaning = {**{label: label for label in LABEL_NAMES}, **label_map}
    classes = np.zeros(values.shape, np.uint8)
    num_known = 0
    for source, target in meaning.items():
        is_source = values == source
        num_known += int(np.count_nonzero(is_source))
        if target != BACKGROUND:
            classes[is_source] = target
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
    cyst = " (label 3 of KiTS21 and KiTS23 is a cyst)" if first == 3 else ""
    return f"{problem}{cyst}; say what it is: --label-map {first:g}=1 (kidney), {first:g}=2 (tumor) or {first:g}=0"


def class_of_words(text: str) -> int | None:
    """The class that a segment's name states (`Left kidney`, `renal mass`), in any case; none where it is unsure.

    A name is only believed where every word of it is known, so that neither a renal vein nor a kidney cyst nor
    a liver lesion is taken for kidney or tumor.
    """
    words = set(re.findall(r"[a-z]+", text.lower())) - _PLACE_WORDS
    if not words or words - _KIDNEY_WORDS - _TUMOR_WORDS:
        return None
    return TUMOR if words & _TUMOR_WORDS else KIDNEY


def map_of_segments(names: Mapping[int, str], where: object, label_map: Mapping[int, int]) -> dict[int, int]:
    """The class of each numbered segment: as `label_map` says, else by its name.

    Raises:
        InputError: a segment is not mapped and its name is neither kidney nor tumor; all such are listed.
    """
    meaning = {number: label_map.get(number, class_of_words(name)) for number, name in names.items()}
    unknown = [number for number, label in meaning.items() if label is None]
    if unknown:
        listed = ", ".join(f"{number} '{names[number]:.40}'" for number in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        raise InputError(
            f"{where}: not known to be kidney or tumor: segment {listed}{more}; say what they are: "
            f"--label-map {unknown[0]}=1 (kidney), {unknown[0]}=2 (tumor) or {unknown[0]}=0 (neither)"
        )
    return {number: label for number, label in meaning.items() if label is not None}
