"""Importances, effects, interaction and suggestion: sentences, figures and tables say the same numbers."""

import csv
import html
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.container import BarContainer
from support.fake_results import SPACE, effect_rows, importance_rows, interaction_rows

from renalnet.config import parse
from study.config.sections import SpaceConfig
from study.records.tables import Effect, Importance, InteractionCell
from study.report import Report
from study.report.analysis.learned import Learned, learned_of
from study.report.analysis.methods import Looks
from study.report.pictures.search_figures import importance_bars, interaction, marginal_effects


def importances(**changes: Any) -> list[Importance]:
    return [Importance(**{**row, **changes}) for row in importance_rows()]


def learned(report: Report, **changes: Any) -> Learned:
    return learned_of(replace(report.content, **changes))


def table(report: Report, name: str) -> list[dict[str, str]]:
    with (Path(report.content.path) / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_page_names_what_is_important(written: Report, page: str) -> None:
    note = "3D_FCN_PPM, 24 complete trials: important: weight of tumor (p 0.001), pooling kernels (p 0.012)."
    assert written.learned.notes == [note] and note in page
    assert written.learned.interaction_note in html.unescape(page)
    assert "explain 0.08 of the objective's variation (p 0.040)" in written.learned.interaction_note


def test_suggestions_drop_what_is_clearly_worse(written: Report) -> None:
    """The lowest third of the weight and one set of kernels are; two trials without pooling say too little."""
    weight, kernels = written.learned.suggestions
    assert (weight.before, weight.after) == ("[0.5, 8.0]", "[2.03, 8.0]")
    assert (kernels.before, kernels.after) == ("[[1, 2, 4, 8], [2, 4, 8], []]", "[[1, 2, 4, 8], []]")
    assert weight.option == "--set 'space.tumor_weight=[2.03,8.0]'"
    assert weight.reason == (
        "weight of tumor: 3.9 to 7.8, mean objective 0.620 (0.570 to 0.670) is the best; clearly worse: 0.52 to 1.9, "
        "mean objective 0.400 (0.360 to 0.440)."
    )
    assert [row["option"] for row in table(written, "suggestions")] == [weight.option, kernels.option]


def test_a_suggestion_is_a_space_within_that_of_the_study(written: Report) -> None:
    options = [shlex.split(one.option)[1] for one in written.learned.suggestions]
    assert all(option.startswith("space.") for option in options)
    values = {one.field: one.after for one in written.learned.suggestions}
    narrowed = parse(SpaceConfig, {**SPACE, **{field: json.loads(text) for field, text in values.items()}}, "a space")
    assert narrowed != parse(SpaceConfig, SPACE, "a space")
    assert narrowed.is_within(parse(SpaceConfig, SPACE, "a space"))


def test_nothing_is_suggested_where_nothing_is_important(written: Report) -> None:
    told = learned(written, importances=importances(verdict="not shown to be important"), interactions=[])
    assert told.suggestions == []
    assert told.notes == ["3D_FCN_PPM, 24 complete trials: no parameter is shown to be important."]
    assert told.interaction_note == "No interaction is shown: fewer than two parameters are important."


@pytest.mark.parametrize(
    ("of_second", "of_third", "expected"),
    [
        ("important", "important", "[1, 2]"),  # the second gap keeps 1 and 2, the third 1
        ("important", "not shown to be important", None),
    ],
)
def test_gaps_of_milestones_share_a_range(written: Report, of_second: str, of_third: str, expected: str | None) -> None:
    about = {"evaluator": "e", "num_trials": 24, "importance": 0.5, "p_value": 0.01}
    verdicts = {"second_gap": of_second, "third_gap": of_third}
    rows = [Importance("fcn_ppm", parameter=name, verdict=verdict, **about) for name, verdict in verdicts.items()]
    means = {"second_gap": (0.5, 0.6, 0.2), "third_gap": (0.6, 0.3, 0.2)}
    effects = [
        Effect(
            network="fcn_ppm",
            parameter=name,
            group=f"{gap}",
            group_low=gap,
            group_high=gap,
            mean_objective=mean,
            low=mean - 0.09,
            high=mean + 0.09,
            num_trials=8,
            num_pruned=0,
        )
        for name, own in means.items()
        for gap, mean in enumerate(own, start=1)
    ]
    manifest = written.content.manifest.model_copy(update={"config": {"space": {"step_gap": [1, 3]}}})
    told = learned(written, importances=rows, effects=effects, interactions=[], manifest=manifest)
    assert [one.after for one in told.suggestions] == ([expected] if expected else [])


def test_few_trials_and_earlier_versions_are_named(written: Report) -> None:
    few = [replace(row, importance=None, p_value=None, verdict="not enough trials: 7 of 20") for row in importances()]
    told = learned(written, importances=few, effects=[], interactions=[])
    assert told.notes == ["3D_FCN_PPM: not enough trials: 7 of 20."]
    assert (told.importances, told.interaction_note, told.suggestions) == ([], "", [])
    old = [Importance("fcn_ppm", "PED-ANOVA", 4, "tumor_weight", 0.6)]
    told = learned(written, importances=old, effects=[], interactions=[])
    assert told.importances == [] and "earlier version, from few trials and without a test" in told.notes[0]


def test_pairs_of_too_few_trials_have_no_interaction(written: Report) -> None:
    cells = [InteractionCell(**{**row, "share": None, "p_value": None}) for row in interaction_rows()]
    told = learned(written, interactions=cells)
    assert told.interaction == [] and told.interaction_note.startswith("No interaction is shown: too few trials")


def test_bars_are_the_table_and_faint_where_nothing_is_shown(written: Report) -> None:
    (axes,) = importance_bars(written.learned.importances, Looks([])).axes
    (bars,) = (one for one in axes.containers if isinstance(one, BarContainer))
    values = [float(row["importance"]) for row in reversed(table(written, "importances"))]
    assert [bar.get_width() for bar in bars] == values
    assert [bar.get_alpha() for bar in bars] == [0.35, 1.0, 1.0]
    (intervals,) = axes.collections
    limits = [[(float(row["low"])), float(row["high"])] for row in reversed(table(written, "importances"))]
    assert [[x for x, _ in segment] for segment in intervals.get_segments()] == limits


def test_dots_are_the_means_of_the_table(written: Report) -> None:
    panels = [axes for axes in marginal_effects(written.learned.effects).axes if axes.axison]
    drawn = [float(y) for axes in panels for y in axes.get_lines()[0].get_ydata()]
    assert drawn == [float(row["mean_objective"]) for row in table(written, "effects")]
    ticks = [text.get_text() for axes in panels for text in axes.get_xticklabels()]
    assert ticks == [f"{row['group']}\n({row['num_trials']})" for row in table(written, "effects")]
    assert len(effect_rows()) == len(drawn)


def test_lines_are_the_cells_of_the_table(written: Report) -> None:
    (axes,) = interaction(written.learned.interaction).axes
    drawn = {
        (line.get_label(), round(float(x))): float(y)
        for line in axes.get_lines()
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    firsts = list(dict.fromkeys(row["first_group"] for row in table(written, "interactions")))
    assert drawn == {
        (f"pooling kernels {row['second_group']}", firsts.index(row["first_group"])): float(row["mean_objective"])
        for row in table(written, "interactions")
    }
