import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from renalnet.config import KIDNEY_TUMOR, KITS23, LabelSet
from renalnet.config.labels import Label
from study.records.content import View, load_results, load_view
from study.records.results import Results
from study.records.tables import Trial
from study.report import Report
from study.report.analysis.learned import parameter_title
from study.report.analysis.methods import Looks, names_in
from study.report.analysis.summary import CaseOutcome
from study.report.pictures.figures import (
    case_dice,
    dice_by_volume,
    learning_curves,
    trial_overview,
    volume_agreement,
)
from study.report.pictures.overlays import (
    Example,
    choose_examples,
    gallery_figure,
    label_bits,
    overlay_figure,
    pack_labels,
    shown_slice,
    sprite,
    worst_figure,
)
from study.report.pictures.search_figures import parallel_coordinates


def outcome(case: str, cyst_ml: float, cyst_pred_ml: float, cyst_dice: float) -> CaseOutcome:
    """Return a case of a network with a tumor of 5 ml and a cyst; a rule found no cyst."""
    return CaseOutcome(
        case=case,
        network="fcn_ppm",
        volume_ml={"kidney": 150.0, "tumor": 5.0, "cyst": cyst_ml},
        pred_ml={"kidney": 148.0, "tumor": 6.0, "cyst": cyst_pred_ml},
        dice={"kidney": 0.95, "tumor": 0.8, "cyst": cyst_dice},
        distance_px={"kidney": 0.5, "tumor": 1.0, "cyst": 1.0},
        distance_mm={"kidney": 0.7, "tumor": 1.4, "cyst": 1.4},
        present={"tumor": True, "cyst": cyst_ml > 0},
        found_lesions={"tumor": True, "cyst": True if cyst_ml > 0 else None},
        others={"threshold_roi": {"kidney": 0.4, "tumor": 0.1, "cyst": 0.0}},
    )


CYSTS = [outcome("a", 2.0, 3.0, 0.6), outcome("b", 8.0, 5.0, 0.7), outcome("c", 0.0, 0.0, 1.0)]


def titles(figure: Figure, axis: str) -> list[str]:
    """Return the labels of an axis of the panels that are shown."""
    return [getattr(axes, f"get_{axis}label")() for axes in figure.axes if axes.axison]


def larger_set(num_labels: int) -> LabelSet:
    """Return kidney, tumor and other structures."""
    others = [Label(name=f"vessel_{value}", value=value) for value in range(3, num_labels + 1)]
    return LabelSet(name="larger", labels=(*KIDNEY_TUMOR.labels, *others))


def test_a_curve_for_each_trial_that_reported(written: Report) -> None:
    content = written.content
    figure = learning_curves(content.epochs or [], content.trials or [], "fcn_ppm-0001", Looks(names_in(content)))
    early, whole = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    (winner,) = figure.axes[0].get_lines()
    # Of eight trials one failed before its first epoch, and two were stopped early.
    assert (len(early.get_segments()), len(whole.get_segments())) == (2, 4)
    assert winner.get_linewidth() == pytest.approx(3.2)


def test_dots_show_the_winners_dice(written: Report) -> None:
    cases = written.summary.cases
    tumor, kidney = case_dice(cases, Looks([]), KIDNEY_TUMOR).axes
    ours = next(line for line in tumor.get_lines() if line.get_marker() == "o")
    assert np.asarray(ours.get_ydata()).tolist() == [case.dice_tumor for case in cases]
    assert len(kidney.get_lines()) == 5


def test_healthy_kidneys_have_no_volume(written: Report) -> None:
    line = dice_by_volume(written.summary.cases, Looks([]), KIDNEY_TUMOR).axes[0].get_lines()[0]
    assert len(np.asarray(line.get_xdata())) == 6


def test_a_cyst_has_a_panel_of_dice() -> None:
    figure = case_dice(CYSTS, Looks([]), KITS23)
    assert titles(figure, "y") == ["Dice tumor", "Dice kidney", "Dice cyst"]
    ours, rule = (
        next(line for line in figure.axes[2].get_lines() if line.get_marker() == marker) for marker in ("o", "x")
    )
    assert list(ours.get_ydata()) == [0.6, 0.7, 1.0]
    assert list(rule.get_ydata()) == [0.0, 0.0, 0.0]


def test_a_cyst_has_a_panel_of_volumes() -> None:
    figure = volume_agreement(CYSTS, Looks([]), KITS23)
    assert titles(figure, "x") == [f"{name}: mean of both volumes (ml)" for name in ("kidney", "tumor", "cyst")]
    # Means and differences of (2, 3), (8, 5) and (0, 0) ml.
    offsets = np.asarray(figure.axes[2].collections[0].get_offsets())
    np.testing.assert_allclose(offsets, [[2.5, 1.0], [6.5, -3.0], [0.0, 0.0]])


def test_dice_by_volume_has_a_panel_for_each_lesion_that_a_case_has() -> None:
    figure = dice_by_volume(CYSTS, Looks([]), KITS23)
    assert titles(figure, "y") == ["Dice tumor", "Dice cyst"]
    line = next(line for line in figure.axes[1].get_lines() if line.get_marker() == "o")
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([2.0, 8.0], [0.6, 0.7])
    assert titles(dice_by_volume(CYSTS[2:], Looks([]), KITS23), "y") == ["Dice tumor"]


def trial(number: int, weights: dict[str, float | None]) -> Trial:
    return Trial(number, f"fcn_ppm-000{number}", "fcn_ppm", "complete", objective=0.5 + 0.1 * number, weights=weights)


def test_a_further_weight_has_a_panel_and_a_column_where_a_trial_states_it() -> None:
    base: dict[str, float | None] = {"tumor": 2.0, "kidney": 1.0, "background": 0.2}
    three = ["weight of tumor", "weight of kidney", "weight of background"]
    first = ["pooling kernels", "milestones (epochs)", *three]
    plain = [trial(0, base), trial(1, {**base, "cyst": None})]
    assert titles(trial_overview(plain, ""), "x") == [*first, "state"]
    stated = [trial(0, base), trial(1, {**base, "renal_cyst": 4.0})]
    overview = trial_overview(stated, "")
    assert titles(overview, "x") == [*first, "weight of renal cyst", "state"]
    # Of each panel, the second collection holds the complete trials.
    np.testing.assert_allclose(overview.axes[5].collections[1].get_offsets(), [[4.0, 0.6]])
    named = [text.get_text() for text in parallel_coordinates(stated, "").axes[0].get_xticklabels()]
    assert named[1:4] == ["weight\nof tumor", "weight of\nbackground", "weight of\nrenal cyst"]
    assert len(parallel_coordinates(plain, "").axes[0].get_xticklabels()) == len(named) - 1


def test_titles_of_searched_parameters() -> None:
    names = [
        "tumor_weight",
        "renal_cyst_weight",
        "background_weight",
        "tumor_share",
        "cyst_share",
        "weight_decay",
        "new",
    ]
    assert [parameter_title(name) for name in names] == [
        "weight of tumor",
        "weight of renal cyst",
        "weight of background",
        "share of tumor crops",
        "share of cyst crops",
        "weight decay",
        "new",
    ]


def test_examples_are_best_median_and_worst_with_a_tumor(written: Report) -> None:
    cases = [case for _, case in choose_examples(written.summary.cases)]
    ranked = [case.case for case in written.summary.cases if case.has_tumor]
    assert cases == [ranked[0], ranked[3], ranked[-1]]


def test_a_single_case_is_shown_once(written: Report) -> None:
    assert len(choose_examples(written.summary.cases[-1:])) == 1


def test_the_slice_with_the_most_tumor_is_shown() -> None:
    truth = np.zeros((4, 3, 3), np.uint8)
    truth[1] = 1
    assert shown_slice(truth, KIDNEY_TUMOR) == 1
    truth[2, 0, 0] = truth[3, 0, :2] = 2
    assert shown_slice(truth, KIDNEY_TUMOR) == 3


def test_without_a_tumor_the_slice_with_the_most_cyst_is_shown() -> None:
    truth = np.zeros((4, 3, 3), np.uint8)
    truth[1] = 1
    truth[2, 0] = 3
    assert shown_slice(truth, KITS23) == 2
    truth[0, 0, 0] = 2
    assert shown_slice(truth, KITS23) == 0


def test_each_label_has_its_color_in_the_overlays() -> None:
    truth = np.zeros((3, 12, 12), np.uint8)
    truth[1, 1:11, 1:11] = 1
    truth[1, 2:5, 2:5] = 2
    truth[1, 6:9, 6:9] = 3
    view = View("a", truth, truth, {"fcn_ppm": truth}, (3.0, 1.0, 1.0))
    example = Example("best", view)
    figure = overlay_figure([example], KITS23)
    for drawn in (figure, worst_figure(example, KITS23), gallery_figure([example], "fcn_ppm", KITS23)):
        filled = next(axes for axes in drawn.axes if len(axes.images) == 2)
        colors = filled.images[1].to_rgba(filled.images[1].get_array(), alpha=1)
        assert [tuple(colors[place]) for place in ((10, 1), (3, 3), (7, 7))] == [
            to_rgba(label.color) for label in KITS23.labels
        ]
        # The background shows the image.
        assert np.ma.getmaskarray(filled.images[1].get_array())[0, 0]
        outlines = {tuple(color) for lines in filled.collections for color in np.asarray(lines.get_edgecolor())}
        assert outlines == {to_rgba(label.color) for label in KITS23.labels}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["kidney", "tumor", "cyst"]


@pytest.mark.parametrize(("num_labels", "num_maps", "bits"), [(2, 5, 2), (3, 14, 2), (4, 7, 4), (15, 6, 4), (16, 4, 8)])
def test_packed_labels_unpack(num_labels: int, num_maps: int, bits: int) -> None:
    assert label_bits(larger_set(num_labels)) == bits
    generator = np.random.default_rng(0)
    volumes = [generator.integers(0, num_labels + 1, size=(2, 3, 4), dtype=np.uint8) for _ in range(num_maps)]
    packed = pack_labels(volumes, bits)
    per_block = 24 // bits
    assert packed.shape == (2, 3, 4 * -(-num_maps // per_block), 3)
    for index, volume in enumerate(volumes):
        block, rest = divmod(index, per_block)
        channel, place = divmod(rest, 8 // bits)
        values = packed[:, :, 4 * block : 4 * block + 4, channel] >> (bits * place)
        np.testing.assert_array_equal(values & (2**bits - 1), volume)


def test_a_sprite_keeps_slices_with_labels_and_one_beyond() -> None:
    truth = np.zeros((10, 8, 12), np.uint8)
    truth[4:6, 2:4, 2:4] = 1
    picture = sprite(View("a", truth, truth, {"fcn_ppm": truth}, (3.0, 1.0, 0.5)), KIDNEY_TUMOR)
    assert picture.slices == [3, 4, 5, 6]
    assert (picture.height, picture.width, picture.first, picture.bits) == (8, 12, 1, 2)
    assert picture.aspect == pytest.approx(8 / 6)


def test_large_slices_are_thinned() -> None:
    zeros = np.zeros((40, 600, 300), np.uint8)
    picture = sprite(View("a", zeros, zeros, {}, (1.0, 1.0, 1.0)), KIDNEY_TUMOR)
    assert (picture.height, picture.width, len(picture.slices)) == (200, 100, 32)


def test_formula_signs_in_a_name_are_drawn_as_text(finished_study: Path) -> None:
    view = load_view(load_results(Results(str(finished_study))), "case_00001")
    odd = View("a$_{$b", view.image, view.truth, view.predictions, view.spacing_mm)
    stream = io.BytesIO()
    overlay_figure([Example("worst", odd)], KIDNEY_TUMOR).savefig(stream, format="svg")
    assert stream.tell() > 0


def test_no_legend_leaves_its_figure() -> None:
    """Five methods with long titles, as in every study: two networks more and both intensity rules."""
    others = dict.fromkeys(("unet3d", "pspnet2d", "threshold_roi", "threshold_inside"), CYSTS[0].dice)
    figure = case_dice([replace(CYSTS[0], others=others)], Looks([]), KITS23)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 5
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
