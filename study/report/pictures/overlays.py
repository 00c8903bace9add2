"""Pictures of test patients: slices with labels over them, side by side as in the paper's Fig. 4 and 5."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib import image as images
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from renalnet.types import KIDNEY, TUMOR, LabelArray
from study.records.content import View
from study.report.analysis.summary import TITLES, CaseOutcome

KIDNEY_COLOUR: Final = "#2EC4A6"
TUMOR_COLOUR: Final = "#FF4D4D"
_MAX_SLICES: Final = 32
_MAX_SIDE: Final = 256
_BITS: Final = 2
"""Bits of a label in a packed picture."""
_LABELS_A_CHANNEL: Final = 4
MAX_GALLERY: Final = 60
"""Patients, the hardest ones."""
_GALLERY_COLUMNS: Final = 6
_WORST_SLICES: Final = 6
_NAME_LENGTH: Final = 24


@dataclass(frozen=True)
class Example:
    """A view with the reason why it is shown."""

    caption: str
    view: View


@dataclass(frozen=True)
class Sprite:
    """A patient's slices below each other: a grey JPEG, and a PNG whose bits hold truth and predictions."""

    case: str
    slices: list[int]
    first: int
    """Place in `slices` of the slice to show first."""
    height: int
    width: int
    aspect: float
    """Physical height of a slice over its width."""
    names: list[str]
    image_uri: str
    labels_uri: str

    @property
    def num_bytes(self) -> int:
        """What it adds to the page."""
        return len(self.image_uri) + len(self.labels_uri)


def choose_examples(patients: Sequence[CaseOutcome]) -> list[tuple[str, str]]:
    """(caption, case) of the best, median and worst patient with a tumor, by the winner's tumor Dice."""
    ranked = [patient for patient in patients if patient.has_tumor] or list(patients)
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    chosen: dict[str, str] = {}
    for name, place in places.items():
        if ranked and ranked[place].case not in chosen.values():
            chosen[f"{name}: tumor Dice {ranked[place].dice_tumor:.3f}"] = ranked[place].case
    return list(chosen.items())


def shown_slice(truth: LabelArray) -> int:
    """The slice (index along z) with the most tumor, or the most kidney where there is no tumor."""
    areas = [(truth == label).sum(axis=(1, 2)) for label in (TUMOR, KIDNEY)]
    return int(np.argmax(areas[0] if areas[0].any() else areas[1]))


def overlay_figure(examples: Sequence[Example]) -> Figure:
    """A row a patient: the image, the truth and each network's labels, kidney green, tumor red."""
    columns = sorted({name for example in examples for name in example.view.predictions}, key=_column_order)
    num_columns = 2 + len(columns)
    tallest = max(_aspect(example.view) for example in examples)
    size = (2.0 * num_columns + 0.4, (2.0 * tallest + 0.05) * len(examples) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(examples), num_columns, squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        _draw_row(row, example, columns)
    for axes, title in zip(grid[0], ["image", "truth", *(TITLES.get(n, n) for n in columns)], strict=True):
        axes.set_title(title, fontsize=10)
    handles = [Patch(color=KIDNEY_COLOUR, label="kidney"), Patch(color=TUMOR_COLOUR, label="tumor")]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure


def worst_figure(example: Example) -> Figure:
    """Slices through a patient's tumor (or kidney), a column each: truth above, then each network, as in Fig. 5."""
    view = example.view
    names = sorted(view.predictions, key=_column_order)
    slices = _slices_through(view.truth)
    aspect = _aspect(view)
    size = (1.7 * len(slices) + 0.9, (1.7 * aspect + 0.05) * (1 + len(names)) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1 + len(names), len(slices), squeeze=False)
    masks = {"truth": view.truth, **{name: view.predictions[name] for name in names}}
    for row, (name, labels) in zip(grid, masks.items(), strict=True):
        for axes, index in zip(row, slices, strict=True):
            _draw_slice(axes, view, index, labels)
        row[0].set_ylabel(TITLES.get(name, name), fontsize=8, parse_math=False)
    for axes, index in zip(grid[0], slices, strict=True):
        axes.set_title(f"z {index}", fontsize=8)
    figure.suptitle(f"{_short(view.case)}, {example.caption}", fontsize=9, parse_math=False)
    return figure


def gallery_figure(examples: Sequence[Example], network: str) -> Figure:
    """A slice of every patient: the truth filled, the network's outline over it, as in Fig. 6."""
    columns = min(_GALLERY_COLUMNS, len(examples))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(1.75 * columns, 2.05 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, example in zip(grid, examples, strict=False):
        view = example.view
        _draw_slice(axes, view, shown_slice(view.truth), view.truth, view.predictions.get(network))
        axes.set_title(f"{_short(view.case)}\n{example.caption}", fontsize=7, parse_math=False)
    for axes in grid[len(examples) :]:
        axes.set_axis_off()
    return figure


def _slices_through(truth: LabelArray) -> list[int]:
    """At most six, evenly through the tumor, or the kidney where there is none."""
    mask = truth == TUMOR if (truth == TUMOR).any() else truth > 0
    occupied = np.flatnonzero(mask.any(axis=(1, 2))) if mask.any() else np.arange(len(truth))
    places = np.linspace(0, len(occupied) - 1, min(_WORST_SLICES, len(occupied)))
    return [int(occupied[place]) for place in places.round().astype(int)]


def _short(case: str) -> str:
    return case if len(case) <= _NAME_LENGTH else f"{case[: _NAME_LENGTH - 1]}…"


def _column_order(network: str) -> tuple[bool, int]:
    known = list(reversed(TITLES))  # from the best of the paper's table to its worst, then what it does not know
    return network not in known, known.index(network) if network in known else 0


def _aspect(view: View) -> float:
    """Physical height of a slice over its width."""
    _, height, width = view.image.shape
    return float(height * view.spacing_mm[1] / (width * view.spacing_mm[2]))


def _draw_row(row: Sequence[Axes], example: Example, columns: Sequence[str]) -> None:
    view = example.view
    index = shown_slice(view.truth)
    labels = [None, view.truth, *(view.predictions.get(name) for name in columns)]
    for axes, volume in zip(row, labels, strict=True):
        _draw_slice(axes, view, index, volume)
    row[0].set_ylabel(f"{_short(view.case)}\n{example.caption}", fontsize=8, parse_math=False)


def _draw_slice(
    axes: Axes, view: View, index: int, labels: LabelArray | None, outlined: LabelArray | None = None
) -> None:
    """The image with labels filled and outlined, or filled alone where another mask is to be outlined over them."""
    aspect = view.spacing_mm[1] / view.spacing_mm[2]
    axes.imshow(view.image[index], cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="bilinear")
    if labels is not None:
        _fill_labels(axes, labels[index], aspect)
        _outline_labels(axes, (labels if outlined is None else outlined)[index])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _fill_labels(axes: Axes, labels: LabelArray, aspect: float) -> None:
    fill = np.ma.masked_equal(labels, 0)
    axes.imshow(
        fill,
        cmap=ListedColormap([KIDNEY_COLOUR, TUMOR_COLOUR]),
        vmin=KIDNEY,
        vmax=TUMOR,
        alpha=0.32,
        aspect=aspect,
        interpolation="nearest",
    )


def _outline_labels(axes: Axes, labels: LabelArray) -> None:
    for label, colour in ((KIDNEY, KIDNEY_COLOUR), (TUMOR, TUMOR_COLOUR)):
        mask = labels == label
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=1.3)


def sprite(view: View) -> Sprite:
    """The slices of a view that hold any label, thinned to at most 32 slices and 256 pixels a side."""
    names = sorted(view.predictions, key=_column_order)
    volumes = [view.truth, *(view.predictions[name] for name in names)]
    slices = _slices_with_labels(volumes)
    step = max(1, -(-max(view.image.shape[1:]) // _MAX_SIDE))
    image = view.image[slices][:, ::step, ::step]
    packed = pack_labels([volume[slices][:, ::step, ::step] for volume in volumes])
    _, height, width = image.shape
    return Sprite(
        case=view.case,
        slices=slices,
        first=int(np.argmin(np.abs(np.subtract(slices, shown_slice(view.truth))))),
        height=height,
        width=width,
        aspect=_aspect(view),
        names=["truth", *names],
        image_uri=_picture(_stacked(np.repeat(image[..., None], 3, axis=-1)), "jpeg"),
        labels_uri=_picture(_stacked(packed), "png"),
    )


def _slices_with_labels(volumes: Sequence[LabelArray]) -> list[int]:
    depth = volumes[0].shape[0]
    occupied = np.flatnonzero(np.any([volume.any(axis=(1, 2)) for volume in volumes], axis=0))
    first, last = (int(occupied[0]), int(occupied[-1])) if len(occupied) else (0, depth - 1)
    first, last = max(0, first - 1), min(depth - 1, last + 1)
    num = min(_MAX_SLICES, last - first + 1)
    return sorted({int(index) for index in np.linspace(first, last, num).round()})


def pack_labels(volumes: Sequence[LabelArray]) -> NDArray[np.uint8]:
    """Up to twelve label volumes in one RGB volume: four of two bits in each channel, lowest bits first."""
    packed = np.zeros((*volumes[0].shape, 3), dtype=np.uint8)
    for index, volume in enumerate(volumes[: 3 * _LABELS_A_CHANNEL]):
        channel, place = divmod(index, _LABELS_A_CHANNEL)
        packed[..., channel] |= (volume & 3) << np.uint8(_BITS * place)
    return packed


def _stacked(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(volume.reshape(-1, *volume.shape[2:]))


def _picture(pixels: NDArray[np.uint8], kind: str) -> str:
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": 82} if kind == "jpeg" else {"optimize": True}
    images.imsave(stream, pixels, format=kind, pil_kwargs=options)
    return data_uri(stream.getvalue(), f"image/{kind}")


def data_uri(content: bytes, media_type: str) -> str:
    """Content that a page carries in itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
