import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from study.records.content import View, load_results, load_view
from study.records.results import Results
from study.report import Report
from study.report.analysis.methods import Looks, names_in
from study.report.pictures.figures import case_dice, dice_by_volume, learning_curves
from study.report.pictures.overlays import Example, choose_examples, overlay_figure, pack_labels, shown_slice, sprite


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
    tumor, kidney = case_dice(cases, Looks([])).axes
    ours = next(line for line in tumor.get_lines() if line.get_marker() == "o")
    assert np.asarray(ours.get_ydata()).tolist() == [case.dice_tumor for case in cases]
    assert len(kidney.get_lines()) == 5


def test_healthy_kidneys_have_no_volume(written: Report) -> None:
    line = dice_by_volume(written.summary.cases, Looks([])).axes[0].get_lines()[0]
    assert len(np.asarray(line.get_xdata())) == 6


def test_examples_are_best_median_and_worst_with_a_tumor(written: Report) -> None:
    cases = [case for _, case in choose_examples(written.summary.cases)]
    ranked = [case.case for case in written.summary.cases if case.has_tumor]
    assert cases == [ranked[0], ranked[3], ranked[-1]]


def test_a_single_case_is_shown_once(written: Report) -> None:
    assert len(choose_examples(written.summary.cases[-1:])) == 1


def test_the_slice_with_the_most_tumor_is_shown() -> None:
    truth = np.zeros((4, 3, 3), np.uint8)
    truth[1] = 1
    assert shown_slice(truth) == 1
    truth[2, 0, 0] = truth[3, 0, :2] = 2
    assert shown_slice(truth) == 3


def test_packed_labels_unpack() -> None:
    generator = np.random.default_rng(0)
    volumes = [generator.integers(0, 3, size=(2, 3, 4), dtype=np.uint8) for _ in range(5)]
    packed = pack_labels(volumes)
    for index, volume in enumerate(volumes):
        channel, place = divmod(index, 4)
        np.testing.assert_array_equal((packed[..., channel] >> (2 * place)) & 3, volume)


def test_a_sprite_keeps_slices_with_labels_and_one_beyond() -> None:
    truth = np.zeros((10, 8, 12), np.uint8)
    truth[4:6, 2:4, 2:4] = 1
    picture = sprite(View("a", truth, truth, {"fcn_ppm": truth}, (3.0, 1.0, 0.5)))
    assert picture.slices == [3, 4, 5, 6]
    assert (picture.height, picture.width, picture.first) == (8, 12, 1)
    assert picture.aspect == pytest.approx(8 / 6)


def test_large_slices_are_thinned() -> None:
    zeros = np.zeros((40, 600, 300), np.uint8)
    picture = sprite(View("a", zeros, zeros, {}, (1.0, 1.0, 1.0)))
    assert (picture.height, picture.width, len(picture.slices)) == (200, 100, 32)


def test_formula_signs_in_a_name_are_drawn_as_text(finished_study: Path) -> None:
    view = load_view(load_results(Results(str(finished_study))), "case_00001")
    odd = View("a$_{$b", view.image, view.truth, view.predictions, view.spacing_mm)
    stream = io.BytesIO()
    overlay_figure([Example("worst", odd)]).savefig(stream, format="svg")
    assert stream.tell() > 0
