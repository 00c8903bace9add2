"""Pictures of test cases: slices with labels over them, side by side as in the paper's Fig. 4 and 5."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib import image as images
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from renalnet.config import LabelSet
from renalnet.types import BACKGROUND, LabelArray
from study.records.content import View
from study.report.analysis.methods import LOOKS, in_order, title_of
from study.report.analysis.summary import CaseOutcome

# Both limits keep a case small, so that the page can hold many.
_MAX_SLICES: Final = 32
_MAX_SIDE: Final = 256
_CHANNEL_BITS: Final = 8
_LABEL_BITS: Final = (2, 4, _CHANNEL_BITS)
"""Numbers of bits that a label may have in a packed picture. A channel holds a whole number of labels of each."""
# Alpha stays unused: canvases of browsers multiply colors by it, which loses bits.
_NUM_CHANNELS: Final = 3
MAX_GALLERY: Final = 60
"""Largest number of cases in the gallery, which shows the hardest ones."""
_GALLERY_COLUMNS: Final = 6
_WORST_SLICES: Final = 6
_NAME_LENGTH: Final = 24
"""Number of characters after which the name of a case is cut."""


@dataclass(frozen=True)
class Example:
    """A view with the reason why it is shown."""

    caption: str
    view: View


@dataclass(frozen=True)
class Sprite:
    """The slices of a case below each other: a gray JPEG, and a PNG whose bits hold truth and predictions."""

    case: str
    slices: list[int]
    """Place of each slice along z."""
    first: int
    """Index in `slices` of the slice to show first."""
    height: int
    """Height of a slice in pixels."""
    width: int
    aspect: float
    """Physical height of a slice divided by its width."""
    names: list[str]
    """Names of the packed label maps, in the order of `pack_labels`."""
    bits: int
    """Number of bits of a label in the PNG: 2, 4 or 8."""
    image_uri: str
    """Data URI of the JPEG."""
    labels_uri: str
    """Data URI of the PNG."""

    @property
    def num_bytes(self) -> int:
        """Number of bytes that the case adds to the page."""
        return len(self.image_uri) + len(self.labels_uri)


def choose_examples(cases: Sequence[CaseOutcome]) -> list[tuple[str, str]]:
    """Return (caption, case) of the best, median and worst case with a tumor, by the winner's tumor Dice.

    Args:
        cases: test cases by falling tumor Dice; without any tumor among them, all are ranked.
    """
    ranked = [case for case in cases if case.has_tumor] or list(cases)
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    chosen: dict[str, str] = {}
    for name, place in places.items():
        # With one or two cases, several places name the same case.
        if ranked and ranked[place].case not in chosen.values():
            chosen[f"{name}: tumor Dice {ranked[place].dice_tumor:.3f}"] = ranked[place].case
    return list(chosen.items())


def shown_slice(truth: LabelArray, labels: LabelSet) -> int:
    """Return the slice (index along z) with the most of the most important label that the truth holds.

    That is the tumor, else a further lesion, else the kidney, else another structure. It is 0 for an empty truth.
    """
    shown = next((label.value for label in reversed(labels.by_rank) if label.value in truth), labels.tumor.value)
    return int(np.argmax((truth == shown).sum(axis=(1, 2))))


def overlay_figure(examples: Sequence[Example], labels: LabelSet) -> Figure:
    """Draw one row per case: the image, the truth and the labels of each method, each label in its color."""
    columns = columns_of(name for example in examples for name in example.view.predictions)
    num_columns = 2 + len(columns)
    tallest = max(_aspect(example.view) for example in examples)
    # Each slice gets two inches and the height of its own aspect, so that little white remains between rows.
    size = (2.0 * num_columns + 0.4, (2.0 * tallest + 0.05) * len(examples) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(examples), num_columns, squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        _draw_row(row, example, columns, labels)
    for axes, title in zip(grid[0], ["image", "truth", *map(title_of, columns)], strict=True):
        # Here and below, a `$` in a name does not start a formula.
        axes.set_title(title, fontsize=10, parse_math=False)
    handles = [Patch(color=label.color, label=label.title) for label in labels.labels]
    # A legend that is wider than the figure would be cut; a column of slices is wide enough for an entry.
    num_entries = min(len(labels), num_columns)
    figure.legend(handles=handles, loc="outside lower right", ncols=num_entries, frameon=False, fontsize=9)
    return figure


def worst_figure(example: Example, labels: LabelSet) -> Figure:
    """Draw slices through the tumor (or kidney) of a case: a column per slice, truth above, methods below (Fig. 5)."""
    view = example.view
    names = columns_of(view.predictions)
    slices = _slices_through(view.truth, labels)
    aspect = _aspect(view)
    size = (1.7 * len(slices) + 0.9, (1.7 * aspect + 0.05) * (1 + len(names)) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1 + len(names), len(slices), squeeze=False)
    masks = {"truth": view.truth, **{name: view.predictions[name] for name in names}}
    for row, (name, mask) in zip(grid, masks.items(), strict=True):
        for axes, index in zip(row, slices, strict=True):
            draw_slice(axes, view, index, labels, mask)
        row[0].set_ylabel(title_of(name), fontsize=8, parse_math=False)
    for axes, index in zip(grid[0], slices, strict=True):
        axes.set_title(f"z {index}", fontsize=8)
    figure.suptitle(f"{_short(view.case)}, {example.caption}", fontsize=9, parse_math=False)
    return figure


def gallery_figure(examples: Sequence[Example], network: str, labels: LabelSet) -> Figure:
    """Draw one slice per case: the truth filled, the network's outline over it (Fig. 6)."""
    columns = min(_GALLERY_COLUMNS, len(examples))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(1.75 * columns, 2.05 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    # The last row of the grid may have more places than examples.
    for axes, example in zip(grid, examples, strict=False):
        view = example.view
        draw_slice(axes, view, shown_slice(view.truth, labels), labels, view.truth, view.predictions.get(network))
        axes.set_title(f"{_short(view.case)}\n{example.caption}", fontsize=7, parse_math=False)
    for axes in grid[len(examples) :]:
        axes.set_axis_off()
    return figure


def _slices_through(truth: LabelArray, labels: LabelSet) -> list[int]:
    """Return at most six slices, evenly through the tumor, or through the kidney where there is no tumor."""
    tumor = truth == labels.tumor.value
    mask = tumor if tumor.any() else labels.body_mask(truth)
    occupied = np.flatnonzero(mask.any(axis=(1, 2))) if mask.any() else np.arange(len(truth))
    places = np.linspace(0, len(occupied) - 1, min(_WORST_SLICES, len(occupied)))
    return [int(occupied[place]) for place in places.round().astype(int)]


def _short(case: str) -> str:
    return case if len(case) <= _NAME_LENGTH else f"{case[: _NAME_LENGTH - 1]}…"


def columns_of(names: Iterable[str]) -> list[str]:
    """Return names as columns show them: known ones in reverse order, as in the paper's figures, then unknown ones."""
    ordered = in_order(names)
    return [name for name in reversed(ordered) if name in LOOKS] + [name for name in ordered if name not in LOOKS]


def _aspect(view: View) -> float:
    """Return the physical height of a slice divided by its width."""
    _, height, width = view.image.shape
    return float(height * view.spacing_mm[1] / (width * view.spacing_mm[2]))


def _draw_row(row: Sequence[Axes], example: Example, columns: Sequence[str], labels: LabelSet) -> None:
    view = example.view
    index = shown_slice(view.truth, labels)
    masks = [None, view.truth, *(view.predictions.get(name) for name in columns)]
    for axes, mask in zip(row, masks, strict=True):
        draw_slice(axes, view, index, labels, mask)
    row[0].set_ylabel(f"{_short(view.case)}\n{example.caption}", fontsize=8, parse_math=False)


def draw_slice(
    axes: Axes,
    view: View,
    index: int,
    labels: LabelSet,
    filled: LabelArray | None,
    outlined: LabelArray | None = None,
) -> None:
    """Draw a slice of the image with a mask filled and outlined; the outline is that of `outlined` where given."""
    aspect = view.spacing_mm[1] / view.spacing_mm[2]
    # Views are windowed already. Without these limits, Matplotlib would stretch the grays of each slice separately.
    axes.imshow(view.image[index], cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="bilinear")
    if filled is not None:
        _fill(axes, filled[index], aspect, labels)
        _outline(axes, (filled if outlined is None else outlined)[index], labels)
    # `set_axis_off` would hide the label of the row as well.
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _fill(axes: Axes, mask: LabelArray, aspect: float, labels: LabelSet) -> None:
    axes.imshow(
        # Masked voxels are transparent, so that the image shows beneath the background.
        np.ma.masked_equal(mask, BACKGROUND),
        # With fixed limits a label keeps its color in slices that hold only some of them.
        cmap=ListedColormap([label.color for label in labels.labels]),
        vmin=1,
        vmax=len(labels),
        alpha=0.32,
        aspect=aspect,
        # Any other interpolation would blend the labels.
        interpolation="nearest",
    )


def _outline(axes: Axes, mask: LabelArray, labels: LabelSet) -> None:
    for label in labels.labels:
        inside = mask == label.value
        if inside.any() and not inside.all():
            axes.contour(inside, levels=[0.5], colors=label.color, linewidths=1.3)


def sprite(view: View, labels: LabelSet) -> Sprite:
    """Return the slices of a view that hold any label and one beyond, at most 32 of at most 256 pixels per side."""
    names = columns_of(view.predictions)
    volumes = [view.truth, *(view.predictions[name] for name in names)]
    slices = _slices_with_labels(volumes)
    # Voxels are left out, not averaged, because labels cannot be averaged and the image must match them.
    stride = max(1, -(-max(view.image.shape[1:]) // _MAX_SIDE))
    image = view.image[slices][:, ::stride, ::stride]
    bits = label_bits(labels)
    packed = pack_labels([volume[slices][:, ::stride, ::stride] for volume in volumes], bits)
    _, height, width = image.shape
    return Sprite(
        case=view.case,
        slices=slices,
        # The slice itself may be among those left out, so the nearest one is taken.
        first=int(np.argmin(np.abs(np.subtract(slices, shown_slice(view.truth, labels))))),
        height=height,
        width=width,
        aspect=_aspect(view),
        names=["truth", *names],
        bits=bits,
        # `imsave` would color a gray picture by a color map, so it gets three equal channels.
        image_uri=_picture(_stacked(np.repeat(image[..., None], 3, axis=-1)), "jpeg"),
        # PNG, because a lossy format would change the bits.
        labels_uri=_picture(_stacked(packed), "png"),
    )


def _slices_with_labels(volumes: Sequence[LabelArray]) -> list[int]:
    depth = volumes[0].shape[0]
    occupied = np.flatnonzero(np.any([volume.any(axis=(1, 2)) for volume in volumes], axis=0))
    first = max(0, int(occupied[0]) - 1) if len(occupied) else 0
    last = min(depth - 1, int(occupied[-1]) + 1) if len(occupied) else depth - 1
    num = min(_MAX_SLICES, last - first + 1)
    return sorted({int(index) for index in np.linspace(first, last, num).round()})


def label_bits(labels: LabelSet) -> int:
    """Return the number of bits of a label in a packed picture: 2 for up to 3 labels, 4 for up to 15, otherwise 8."""
    return next(bits for bits in _LABEL_BITS if len(labels) < 2**bits)


def pack_labels(volumes: Sequence[LabelArray], bits: int) -> NDArray[np.uint8]:
    """Pack label maps (z, y, x) into an RGB volume (z, y, n * x, 3), the lowest bits of each channel first.

    A block of width x holds `3 * 8 / bits` maps. Further maps lie in further blocks, to the right of it.

    Args:
        volumes: label maps of one shape, with values below `2 ** bits`.
        bits: number of bits of a label: 2, 4 or 8.
    """
    per_channel = _CHANNEL_BITS // bits
    num_blocks = -(-len(volumes) // (_NUM_CHANNELS * per_channel))
    depth, height, width = volumes[0].shape
    packed = np.zeros((depth, height, num_blocks, width, _NUM_CHANNELS), dtype=np.uint8)
    for index, volume in enumerate(volumes):
        channel, place = divmod(index, per_channel)
        block, channel = divmod(channel, _NUM_CHANNELS)
        packed[:, :, block, :, channel] |= (volume & (2**bits - 1)) << np.uint8(bits * place)
    return packed.reshape(depth, height, -1, _NUM_CHANNELS)


def _stacked(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(volume.reshape(-1, *volume.shape[2:]))


def _picture(pixels: NDArray[np.uint8], kind: str) -> str:
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": 82} if kind == "jpeg" else {"optimize": True}
    images.imsave(stream, pixels, format=kind, pil_kwargs=options)
    return data_uri(stream.getvalue(), f"image/{kind}")


def data_uri(content: bytes, media_type: str) -> str:
    """Return content as a URI that a page can embed."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
