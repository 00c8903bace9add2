"""The label sets: which structures a store, a network and a study distinguish.

A label set is data. It is a built-in name, a YAML file, or a section of a configuration file, and nothing in the code
assumes how many labels it has. Every set has a `kidney` and a `tumor` of it, which the search, the detection and the
planning sheet are about. Its other labels are further lesions of the kidney, such as cysts, or other structures, such
as vessels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from renalnet.config.section import Section, assigned, parse, read_file
from renalnet.errors import ConfigError, nearest
from renalnet.types import BACKGROUND, LabelArray, MaskArray

KIDNEY: Final = "kidney"
"""Name of the organ that every set has."""
TUMOR: Final = "tumor"
"""Name of the lesion that every set has."""
BACKGROUND_NAME: Final = "background"
_RESERVED: Final = frozenset({BACKGROUND_NAME, "mass", "kidney_and_mass", "rows", "remaining"})
"""Names that columns of tables have already."""
_MAX_LABELS: Final = 50
"""A label is one of 256 values of a byte; far fewer are useful, because every label takes a channel of the output."""


_COLORS: Final = (
    *("#2EC4A6", "#FF4D4D", "#4D8DFF", "#FF9F1C", "#9B5DE5", "#F15BB5"),
    *("#00BBF9", "#C0CA33", "#8D6E63", "#5C6BC0", "#EF6C00", "#78909C"),
)
"""Colors by value, which differ from each other over a gray image."""
_TUMOR_WORDS: Final = ("tumors", "tumour", "tumours", "mass", "masses", "lesion", "lesions", "neoplasm", "neoplasms")
_KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    KIDNEY: {"words": ("kidneys", "renal"), "code": {"value": "64033007", "meaning": "Kidney"}},
    TUMOR: {"words": _TUMOR_WORDS, "code": {"value": "126880001", "meaning": "Neoplasm of kidney"}},
    # Simple cysts hold fluid like water.
    "cyst": {
        "words": ("cysts",),
        "code": {"value": "367643001", "meaning": "Cyst"},
        "painted_hu": (-5.0, 20.0),
    },
}
"""What every set knows of a label by its name, unless it states something else."""


class Code(Section):
    """A coded concept of DICOM (PS3.16)."""

    value: str = Field(min_length=1, max_length=16)
    """Code, such as `64033007`."""
    scheme: str = Field("SCT", min_length=1, max_length=16)
    """Coding scheme; `SCT` is SNOMED CT."""
    meaning: str = Field(min_length=1, max_length=64)
    """Meaning for people, such as `Kidney`."""


STRUCTURE: Final = Code(value="123037004", meaning="Anatomical Structure")
LESION: Final = Code(value="49755003", meaning="Morphologically Abnormal Structure")


class Label(Section):
    """One label of a set."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    """Name in tables and messages; columns of tables contain it, such as `dice_tumor`."""
    value: int = Field(ge=1, le=_MAX_LABELS)
    """Value in label maps and masks. The values of a set are 1, 2, 3 and so on."""
    lesion_of: str | None = None
    """Name of the label whose lesion this is; null for an organ or another structure."""
    loss_weight: float = Field(1.0, gt=0)
    """Weight in the cross-entropy, unless `loss` states another one. The kidney's is the unit."""
    crop_share: float = Field(0.0, ge=0, le=1)
    """Share of the crops that are centred near a voxel of this label, unless `patch` states another one."""
    color: str = Field("", pattern=r"^#[0-9A-Fa-f]{6}$")
    """Color in figures and in the report, `#RRGGBB`; one of twelve by the value unless stated."""
    words: tuple[Annotated[str, Field(pattern=r"^[a-z]+$")], ...] = ()
    """Words in the names of DICOM segments that mean this label, in addition to its own name; in lower case. Kidney,
    tumor and cyst have some unless others are stated; likewise a `code`."""
    code: Code | None = None
    """Type of the segment in DICOM. Null states only that it is a lesion or a structure."""
    painted_hu: tuple[float, float] | None = None
    """Range from which a painted image draws the mean CT number of this label. Kidney and tumor have looks of their
    own and ignore it; null paints a lesion as fluid and a structure as an enhanced vessel."""

    @property
    def category(self) -> Code:
        """Category of the segment in DICOM."""
        return LESION if self.lesion_of else STRUCTURE

    @property
    def type_code(self) -> Code:
        """Type of the segment in DICOM: `code`, or the category where it is null."""
        return self.code or self.category

    @property
    def title(self) -> str:
        """Name for people: spaces for underscores."""
        return self.name.replace("_", " ")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue of `color`, 0 to 255."""
        red, green, blue = bytes.fromhex(self.color.removeprefix("#"))
        return red, green, blue

    @model_validator(mode="before")
    @classmethod
    def _with_what_is_known(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        value = values.get("value")
        color = {"color": _COLORS[(value - 1) % len(_COLORS)]} if isinstance(value, int) else {}
        return {**color, **_KNOWN.get(str(values.get("name")), {}), **values}

    @model_validator(mode="after")
    def _hu_ascend(self) -> Self:
        if self.painted_hu and self.painted_hu[0] > self.painted_hu[1]:
            raise ValueError(f"painted_hu {self.painted_hu} must be [low, high]; swap the two values")
        return self


class LabelSet(Section):
    """The labels that label maps, networks and masks distinguish. 0 is always background."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")
    """Name of the set in messages."""
    labels: tuple[Label, ...] = Field(min_length=2, max_length=_MAX_LABELS)
    """The labels by value, from 1."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        values = [label.value for label in self.labels]
        if values != list(range(1, len(values) + 1)):
            raise ValueError(f"labels have the values {values}; number them 1, 2, 3 and so on, in this order")
        for name in self.names:
            if self.names.count(name) > 1 or name in _RESERVED:
                raise ValueError(f"label '{name}' is used twice or reserved; rename it")
        for label in self.labels:
            self._check_lesion(label)
        if KIDNEY not in self.names or TUMOR not in self.names or self.tumor.lesion_of != KIDNEY:
            raise ValueError(f"a set must have a label '{KIDNEY}', and a label '{TUMOR}' with lesion_of: {KIDNEY}")
        if (total := sum(label.crop_share for label in self.labels)) > 1:
            raise ValueError(f"crop_share of all labels is {total:g} together; it must be at most 1: lower some")
        return self

    def _check_lesion(self, label: Label) -> None:
        organs = [other.name for other in self.labels if other.lesion_of is None]
        if label.lesion_of is not None and label.lesion_of not in organs:
            raise ValueError(
                f"label '{label.name}': lesion_of '{label.lesion_of}' is no label that may have lesions; "
                f"{nearest(label.lesion_of, organs)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Label:
        """Return a label by its name. Raises KeyError for an unknown one."""
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(name)

    @property
    def num_classes(self) -> int:
        """Number of labels and background: the channels of a network's output."""
        return 1 + len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels without background, by value."""
        return tuple(label.name for label in self.labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; the place of a name is its value."""
        return (BACKGROUND_NAME, *self.names)

    @property
    def kidney(self) -> Label:
        """The organ."""
        return self[KIDNEY]

    @property
    def tumor(self) -> Label:
        """The lesion that detection and planning are about."""
        return self[TUMOR]

    @property
    def lesions(self) -> tuple[Label, ...]:
        """The lesions of the kidney, by value."""
        return tuple(label for label in self.labels if label.lesion_of == KIDNEY)

    @property
    def body(self) -> tuple[Label, ...]:
        """The kidney and its lesions, by value: what connectivity keeps together."""
        return tuple(label for label in self.labels if KIDNEY in (label.name, label.lesion_of))

    @property
    def by_rank(self) -> tuple[Label, ...]:
        """The labels from the least to the most important: other structures, the kidney, its lesions, the tumor."""
        others = [label for label in self.labels if label not in self.body]
        lesions = [label for label in reversed(self.lesions) if label != self.tumor]
        return (*others, self.kidney, *lesions, self.tumor)

    def to_ranks(self, values: LabelArray) -> LabelArray:
        """Return the place of each voxel's label in `by_rank`, from 1; background stays 0.

        The maximum of two arrays of ranks is the more important label of each voxel.
        """
        ranks = np.zeros(self.num_classes, np.uint8)
        ranks[[label.value for label in self.by_rank]] = range(1, self.num_classes)
        return ranks[values]

    def from_ranks(self, ranks: LabelArray) -> LabelArray:
        """Return the values whose `to_ranks` is given."""
        values = np.array([BACKGROUND, *(label.value for label in self.by_rank)], np.uint8)
        return values[ranks]

    def body_mask(self, values: LabelArray) -> MaskArray:
        """Return the voxels of the kidney and its lesions, of the shape of `values`."""
        if len(self.body) == len(self.labels):
            # Several times faster than the lookup.
            return np.not_equal(values, BACKGROUND)
        return np.isin(values, [label.value for label in self.body])

    def lesion_mask(self, values: LabelArray) -> MaskArray:
        """Return the voxels of the lesions of the kidney, of the shape of `values`."""
        if len(self.lesions) == 1:
            return np.equal(values, self.tumor.value)
        return np.isin(values, [label.value for label in self.lesions])

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{label.value} {label.name}' for label in self.labels)})"


KIDNEY_TUMOR: Final = LabelSet(
    name="kidney_tumor",
    labels=(
        Label(
            name=KIDNEY,
            value=1,
            crop_share=0.35,
        ),
        Label(
            name=TUMOR,
            value=2,
            lesion_of=KIDNEY,
            loss_weight=2.0,
            crop_share=0.5,
        ),
    ),
)
"""The labels of the paper and of KiTS19; the default."""
KITS23: Final = LabelSet(
    name="kits23",
    labels=(
        KIDNEY_TUMOR.kidney,
        KIDNEY_TUMOR.tumor.model_copy(update={"crop_share": 0.4}),
        Label(
            name="cyst",
            value=3,
            lesion_of=KIDNEY,
            loss_weight=2.0,
            crop_share=0.1,
        ),
    ),
)
"""The labels of KiTS21 and KiTS23."""
LABEL_SETS: Final[Mapping[str, LabelSet]] = {each.name: each for each in (KIDNEY_TUMOR, KITS23)}
"""The built-in sets by name."""


def label_set(source: object) -> LabelSet:
    """Return the set that a configuration states.

    Args:
        source: name of a built-in set, path of a YAML file with `name` and `labels`, or these two as a mapping.

    Raises:
        ConfigError: there is no such set or file, or it breaks a rule.
    """
    if isinstance(source, LabelSet):
        return source
    if isinstance(source, Mapping):
        return parse(LabelSet, source, "labels")
    if isinstance(source, str) and source in LABEL_SETS:
        return LABEL_SETS[source]
    if isinstance(source, str) and source.endswith((".yaml", ".yml")):
        return parse(LabelSet, read_file(source), source)
    raise ConfigError(f"unknown label set '{source}'; name a YAML file, or a built-in set: {', '.join(LABEL_SETS)}")


def _read_set(source: object) -> object:
    # Mappings are validated by pydantic, which names the wrong key with its place.
    if isinstance(source, Mapping | LabelSet):
        return source
    try:
        return label_set(source)
    except ConfigError as error:
        raise ValueError(str(error)) from error


Labels = Annotated[LabelSet, BeforeValidator(_read_set)]
"""The field of a configuration that states a label set: a built-in name, a YAML file or a mapping."""


def stated_labels(values: Any) -> LabelSet | None:
    """Return the set that the values of a section state, by default `KIDNEY_TUMOR`.

    The result is None where `values` is no mapping, or states no valid set, which the validation of the field reports.
    """
    try:
        return label_set(values.get("labels", KIDNEY_TUMOR)) if isinstance(values, Mapping) else None
    except ConfigError:
        return None


def chosen_labels(assignments: Iterable[str], values: Mapping[str, Any] | None = None) -> LabelSet:
    """Return the set of a command: that of `--set labels=`, else that of its configuration file, else the default.

    The other values of a configuration depend on it, so it is read before them.

    Raises:
        ConfigError: there is no such set, or it breaks a rule.
    """
    sources = assigned(assignments, "labels") or [(values or {}).get("labels", KIDNEY_TUMOR)]
    return label_set(sources[-1])


def _meaning(labels: LabelSet) -> list[tuple[str, str | None]]:
    return [(label.name, label.lesion_of) for label in labels.labels]


def require_same_labels(found: LabelSet, expected: LabelSet, where: str, other: str, error: type[Exception]) -> None:
    """Raise `error` if the values of two sets do not mean the same. Colors and codes may differ.

    Args:
        found: set of `where`.
        expected: set of `other`.
        where: name of what is refused, in the message.
        other: name of what it does not fit, in the message.
        error: class of the error.
    """
    if _meaning(found) != _meaning(expected):
        source = found.name if LABEL_SETS.get(found.name) == found else "FILE.yaml, the file of this set,"
        raise error(
            f"{where}: its labels are {found}, but those of {other} are {expected}; use one label set for both "
            f"(--set labels={source} for that of {where})"
        )


def with_article(noun: str) -> str:
    """Return `a tumor`, or `an adrenal gland`."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def listed(names: Sequence[str]) -> str:
    """Return `kidney and tumor`, or `kidney, tumor and cyst`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
