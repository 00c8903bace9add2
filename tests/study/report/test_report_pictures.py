"""Every number in a picture of the report is that of its table, and a network has one color in all pictures."""

import csv
import re
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from support.fake_results import WINNER

from renalnet.config.networks import MAIN_NETWORK, NETWORKS
from study.report import Report
from study.report.analysis.palette import STATE_COLORS
from study.report.pages.write import draw_figures
from study.report.pictures.search_figures import parameter_title

Points = list[tuple[float, ...]]


@pytest.fixture(scope="module")
def drawn(written: Report) -> dict[str, Figure]:
    return draw_figures(written)


def table(report: Report, name: str) -> list[dict[str, str]]:
    with (Path(report.content.path) / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def grouped(rows: list[dict[str, str]], by: str, *columns: str) -> list[Points]:
    """Return the points of each group of rows; rows without a value are left out."""
    found = defaultdict(list)
    for row in rows:
        if all(row[column] for column in columns):
            found[row[by]].append(tuple(float(row[column]) for column in columns))
    return list(found.values())


def dots(axes: Axes) -> Points:
    """Return the places of all dots of a panel."""
    marks = (each for each in axes.collections if isinstance(each, PathCollection))
    return [tuple(place) for each in marks for place in np.asarray(each.get_offsets(), np.float64).tolist()]


def agree(found: Points, expected: Points) -> bool:
    """Whether both hold the same points, in any order. Tables have six significant digits."""
    return len(found) == len(expected) and np.allclose(sorted(found), sorted(expected), rtol=1e-5, atol=1e-6)


def test_learning_curves(drawn: dict[str, Figure], written: Report) -> None:
    (axes,) = drawn["learning_curves"].axes
    lines = [line for each in axes.collections if isinstance(each, LineCollection) for line in each.get_segments()]
    lines.append(axes.get_lines()[0].get_xydata())  # the winner's
    expected = grouped(table(written, "learning_curves"), "name", "epoch", "objective")
    assert len(lines) == len(expected)
    found = sorted([tuple(map(float, point)) for point in line] for line in lines)
    assert all(agree(one, other) for one, other in zip(found, sorted(expected), strict=True))


def test_dice_of_the_test_cases(drawn: dict[str, Figure], written: Report) -> None:
    for axes, label in zip(drawn["patient_dice"].axes, ("tumor", "kidney"), strict=True):
        found = [[(float(height),) for height in line.get_ydata()] for line in axes.get_lines()]
        expected = grouped(table(written, "patient_dice"), "network", f"dice_{label}")
        assert sorted(map(len, found)) == sorted(map(len, expected)) and len(found) == 5
        assert agree([point for line in found for point in line], [point for line in expected for point in line])


def test_dice_by_volume(drawn: dict[str, Figure], written: Report) -> None:
    (axes,) = drawn["dice_by_volume"].axes
    found = [tuple(map(float, point)) for line in axes.get_lines() for point in line.get_xydata()]
    rows = [row for row in table(written, "patient_dice") if float(row["tumor_ml"])]
    assert agree(found, [(float(row["tumor_ml"]), float(row["dice_tumor"])) for row in rows])


def test_agreement_of_volumes(drawn: dict[str, Figure], written: Report) -> None:
    for axes, label in zip(drawn["volume_agreement"].axes, ("kidney", "tumor"), strict=True):
        rows = table(written, "patients")
        pairs = [(float(row[f"{label}_ml"]), float(row[f"{label}_pred_ml"])) for row in rows]
        assert agree(dots(axes), [((true + predicted) / 2, predicted - true) for true, predicted in pairs])
        differences = [predicted - true for true, predicted in pairs]
        reach = 1.96 * stdev(differences)
        told = [float(re.findall(r"[-+][\d.]+", text.get_text())[0]) for text in axes.texts]
        bias = fmean(differences)
        assert told == pytest.approx([bias, bias + reach, bias - reach], abs=0.051)


def test_expected_dice(drawn: dict[str, Figure], written: Report) -> None:
    (axes,) = drawn["trust"].axes
    rows = table(written, "patients")
    assert agree(dots(axes), [(float(row["expected_dice"]), float(row["dice_tumor"])) for row in rows])


def test_searched_values(drawn: dict[str, Figure], written: Report) -> None:
    rows = [row for row in table(written, "trials") if row["network"] == MAIN_NETWORK and row["objective"]]
    panels = {axes.get_xlabel(): axes for axes in drawn["trial_overview"].axes}
    for label in ("tumor", "kidney", "background"):
        expected = [(float(row[f"weight_{label}"]), float(row["objective"])) for row in rows]
        assert agree(dots(panels[f"weight of {label}"]), expected)
    parallel = drawn["parallel_coordinates"].axes[0]
    objectives = [float(row["objective"]) for row in rows]
    marks = [float(text.get_text()) for text in parallel.texts[-3:]]
    middle = (min(objectives) + max(objectives)) / 2
    assert marks == pytest.approx([min(objectives), middle, max(objectives)], rel=5e-3)


def test_importances(drawn: dict[str, Figure], written: Report) -> None:
    (axes,) = drawn["importances"].axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    found = dict(zip(names, (bar.get_width() for bar in axes.patches), strict=True))
    rows = table(written, "importances")
    assert found == pytest.approx({parameter_title(row["parameter"]): float(row["importance"]) for row in rows})


def test_trials_and_hours_of_each_state(drawn: dict[str, Figure], written: Report) -> None:
    left, right = drawn["pruning"].axes
    rows = table(written, "trials")
    bars = {name.get_text(): bar.get_width() for name, bar in zip(right.get_yticklabels(), right.patches, strict=True)}
    for state in STATE_COLORS:
        expected = sum(float(row["cpu_hours"]) for row in rows if row["state"] == state)
        assert bars[state] == pytest.approx(expected)
    assert bars["saved by pruning"] == pytest.approx(written.summary.hours.cpu_saved)
    # All bars of the epochs together are the epochs that were trained.
    assert sum(bar.get_height() for bar in left.patches) == sum(int(row["epochs"]) for row in rows)


def test_a_network_has_one_color_in_all_pictures(drawn: dict[str, Figure], written: Report) -> None:
    color = NETWORKS[MAIN_NETWORK].color.lower()
    (curves,) = drawn["learning_curves"].axes
    seen = {"curve of the winner": curves.get_lines()[0].get_color()}
    for name in ("patient_dice", "dice_by_volume"):
        seen[name] = next(line for line in drawn[name].axes[0].get_lines() if line.get_marker() == "o").get_color()
    for name, place in (("volume_agreement", 0), ("trust", 0), ("trial_overview", 1)):
        seen[name] = drawn[name].axes[0].collections[place].get_facecolor()[0]
    seen["parallel_coordinates"] = drawn["parallel_coordinates"].axes[0].get_lines()[-1].get_color()
    seen["importances"] = drawn["importances"].axes[0].patches[0].get_facecolor()
    assert {name: to_hex(each) for name, each in seen.items()} == dict.fromkeys(seen, color)
    # The curves of a network have its color, too.
    colors = {to_hex(each) for part in curves.collections[:4:2] for each in part.get_colors()}
    networks = {row.network for row in written.content.epochs or [] if row.name != WINNER}
    assert colors == {NETWORKS[name].color.lower() for name in networks}
