"""The paper's Figs. 4 to 6 with the cases of the evidence, each of at most a megabyte."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from renalnet.config import LabelSet
from renalnet.types import LabelArray, Triple
from study.evidence.regions import REGIONS, regions_of
from study.records.content import View, load_view
from study.report.analysis.contents import Report
from study.report.analysis.methods import title_of
from study.report.analysis.summary import CaseOutcome
from study.report.pictures.overlays import (
    Example,
    choose_examples,
    columns_of,
    draw_slice,
    shown_slice,
    worst_figure,
)
from study.report.pictures.surfaces import smooth_surface

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

MAX_BYTES: Final = 1_000_000
"""Size of a committed figure."""
_DOTS_PER_INCH: Final = (130, 100, 80, 60, 45)
"""Resolutions that are tried, until a figure is small enough."""
_NUM_PATIENTS: Final = 6
"""Rows of Fig. 6."""
_ARROW: Final = {"arrowstyle": "-|>", "color": "#FFD400", "linewidth": 2}
_ARROW_LENGTH_PX: Final = 9.0
_ZOOM: Final = 1.5
"""Enlargement of a surface; an ROI leaves room for the labels of axes, which are not drawn."""
_FROM_FRONT: Final = {"elev": 8, "azim": -80}
"""View of a surface; y increases towards the patient's back."""


def paper_figures(report: Report) -> dict[str, Figure]:
    """Return the figures by name, `fig4` to `fig6`; none where no case has a view."""
    content = report.content
    cases = [case for case in report.summary.cases if case.case in content.view_cases]
    chosen = [pair for pair in choose_examples(cases) if pair[1] in content.view_cases]
    if not chosen:
        return {}
    examples = [Example(caption, load_view(content, case)) for caption, case in chosen]
    patients = [load_view(content, case.case) for case in _spread(cases)]
    return {
        "fig4": comparison_figure(examples, content.labels),
        "fig5": worst_figure(examples[-1], content.labels),
        "fig6": patients_figure(patients, cases[0].network, content.labels),
    }


def png_within(figure: Figure, most_bytes: int = MAX_BYTES) -> bytes:
    """Return a figure as PNG in the highest resolution that fits, or in the lowest one."""
    content = b""
    for resolution in _DOTS_PER_INCH:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=resolution)
        content = stream.getvalue()
        if len(content) <= most_bytes:
            break
    return content


def _spread(cases: Sequence[CaseOutcome]) -> list[CaseOutcome]:
    """Return cases with a tumor from the best to the worst one, evenly; of all cases where none has a tumor."""
    ranked = [case for case in cases if case.has_tumor] or list(cases)
    places = np.linspace(0, len(ranked) - 1, min(_NUM_PATIENTS, len(ranked)))
    return [ranked[place] for place in places.round().astype(int)]


def comparison_figure(examples: Sequence[Example], labels: LabelSet) -> Figure:
    """Draw two rows per case: a slice, then the surfaces seen from the front; a column per method (Fig. 4)."""
    columns = columns_of(name for example in examples for name in example.view.predictions)
    titles = ["image", "truth", *map(title_of, columns)]
    figure = Figure(figsize=(2.0 * len(titles), 4.1 * len(examples)), layout="constrained")
    for number, example in enumerate(examples):
        view = example.view
        masks = [None, view.truth, *(view.predictions.get(name) for name in columns)]
        for column, mask in enumerate(masks):
            place = 2 * number * len(titles) + column + 1
            axes = figure.add_subplot(2 * len(examples), len(titles), place)
            draw_slice(axes, view, shown_slice(view.truth, labels), labels, mask)
            if number == 0:
                axes.set_title(titles[column], fontsize=10, parse_math=False)
            if column == 0:
                axes.set_ylabel(f"{view.case}\n{example.caption}", fontsize=8, parse_math=False)
            _draw_below(figure, (2 * len(examples), len(titles), place + len(titles)), view, mask, labels)
    return figure


def _draw_below(
    figure: Figure, place: tuple[int, int, int], view: View, mask: LabelArray | None, labels: LabelSet
) -> None:
    """Draw the surfaces of a mask, or the image's maximum from front to back where there is no mask."""
    if mask is None:
        _draw_projection(figure.add_subplot(*place), view)
    else:
        # Matplotlib registers the projection with this import.
        from mpl_toolkits.mplot3d import Axes3D

        axes = figure.add_subplot(*place, projection="3d")
        assert isinstance(axes, Axes3D)
        draw_surfaces(axes, mask, view.spacing_mm, labels)


def _draw_projection(axes: Axes, view: View) -> None:
    aspect = view.spacing_mm[0] / view.spacing_mm[2]
    # The first slice is the lowest one, which is drawn at the bottom.
    axes.imshow(view.image.max(axis=1), cmap="gray", vmin=0, vmax=255, aspect=aspect, origin="lower")
    axes.set_axis_off()


def draw_surfaces(axes: "Axes3D", mask: LabelArray, spacing_mm: Triple, labels: LabelSet) -> None:
    """Draw the surface of each label of a mask, the kidney transparent, so that lesions inside it are seen."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    extent_mm = np.multiply(mask.shape, spacing_mm)[::-1]
    for label in labels.labels:
        inside = mask == label.value
        if inside.any():
            corners_mm, triangles = smooth_surface(inside, spacing_mm)
            alpha = 0.25 if label == labels.kidney else 1.0
            faces = corners_mm[:, ::-1][triangles]
            axes.add_collection3d(Poly3DCollection(faces, facecolors=label.color, alpha=alpha, shade=True))
    axes.set(xlim=(0, extent_mm[0]), ylim=(0, extent_mm[1]), zlim=(0, extent_mm[2]))
    axes.set_box_aspect(extent_mm, zoom=_ZOOM)
    axes.view_init(**_FROM_FRONT)
    axes.set_axis_off()


def patients_figure(views: Sequence[View], network: str, labels: LabelSet) -> Figure:
    """Draw a row per patient: image, truth, mask; an arrow points at the largest error at the hilum (Fig. 6)."""
    figure = Figure(figsize=(6.4, 2.1 * len(views)), layout="constrained")
    grid = figure.subplots(len(views), 3, squeeze=False)
    for row, view in zip(grid, views, strict=True):
        mask = view.predictions.get(network)
        found = None if mask is None else hilum_error(view.truth, mask, view.spacing_mm, labels)
        index = shown_slice(view.truth, labels) if found is None else found[0]
        for axes, shown in zip(row, (None, view.truth, mask), strict=True):
            draw_slice(axes, view, index, labels, shown)
        row[0].set_ylabel(view.case, fontsize=8, parse_math=False)
        if found is not None:
            _point_at(row[2], (found[2], found[1]))
    for axes, title in zip(grid[0], ("image", "truth", title_of(network)), strict=True):
        axes.set_title(title, fontsize=10, parse_math=False)
    return figure


def _point_at(axes: Axes, place: tuple[float, float]) -> None:
    x, y = place
    axes.annotate("", xy=(x, y), xytext=(x + _ARROW_LENGTH_PX, y - _ARROW_LENGTH_PX), arrowprops=_ARROW)


def hilum_error(
    truth: LabelArray, mask: LabelArray, spacing_mm: Triple, labels: LabelSet
) -> tuple[int, float, float] | None:
    """Return slice, row and column of the middle of the errors at the hilum, in the slice with most of them.

    The result is None where no voxel at the hilum has a wrong label.
    """
    wrong = (regions_of(truth, spacing_mm, labels) == REGIONS.index("hilum")) & (mask != truth)
    if not wrong.any():
        return None
    index = int(wrong.sum(axis=(1, 2)).argmax())
    row, column = np.argwhere(wrong[index]).mean(axis=0)
    return index, float(row), float(column)
