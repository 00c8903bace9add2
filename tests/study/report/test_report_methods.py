"""Networks that the table does not have: they keep their names, and get colors and markers of their own."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from support.fake_results import curve_rows, importance_rows, metric_rows, trial_rows, write_rows

from renalnet.config import KIDNEY_TUMOR
from renalnet.config.inference import OPERATIONS
from renalnet.config.networks import NETWORKS
from study.records.content import load_results
from study.records.results import Results
from study.report import Report, write_report
from study.report.analysis.contents import analyse
from study.report.analysis.methods import LOOKS, STAGES, Looks, in_order, names_in, stage_place, stage_title, title_of
from study.report.analysis.statistics import Settings
from study.report.analysis.summary import standings_of
from study.report.pictures.figures import case_dice, dice_by_volume, learning_curves
from study.report.pictures.search_figures import importance_bars

pytestmark = pytest.mark.slow

UNKNOWN = "odd$_{<b>net"
"""A name that Matplotlib would read as a formula, and HTML as markup."""
RENAMED = {"unet3d": UNKNOWN, "pspnet2d": "another"}


def renamed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "network": RENAMED.get(row["network"], row["network"])} for row in rows]


@pytest.fixture(scope="module")
def unknown(finished_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report whose baselines are networks of another version."""
    folder = tmp_path_factory.mktemp("unknown") / "results"
    shutil.copytree(finished_study, folder)
    write_rows(folder / "trials.parquet", renamed(trial_rows()))
    write_rows(folder / "curves.parquet", renamed(curve_rows()))
    write_rows(folder / "importances.parquet", [{**row, "network": UNKNOWN} for row in importance_rows()])
    write_rows(folder / "final" / "metrics.parquet", renamed(metric_rows()))
    return write_report(Results(str(folder)), Settings(resamples=200))


def test_known_names_are_ordered_as_table_one_and_unknown_ones_by_alphabet() -> None:
    names = ["zeta", "threshold_roi", "alpha", "fcn_ppm", "unet3d", "zeta"]
    assert in_order(names) == ["unet3d", "fcn_ppm", "threshold_roi", "alpha", "zeta"]
    assert in_order(NETWORKS) == list(NETWORKS)[::-1]


def test_every_registered_network_has_the_look_of_its_entry() -> None:
    for name, entry in NETWORKS.items():
        assert (LOOKS[name].title, LOOKS[name].color, LOOKS[name].marker) == (entry.title, entry.color, entry.marker)


def test_each_unknown_name_has_a_color_of_its_own() -> None:
    names = [f"net-{number}" for number in range(20)]
    looks = Looks([*names, "fcn_ppm"])
    assert [looks[name].title for name in names] == names
    assert len({looks[name].color for name in (*names, *LOOKS)}) == len(names) + len(LOOKS)
    assert all(looks[name] == Looks(reversed(names))[name] for name in names)


def test_an_unknown_network_is_in_the_learning_curves(unknown: Report) -> None:
    content = unknown.content
    looks = Looks(names_in(content))
    figure = learning_curves(content.epochs or [], content.trials or [], "fcn_ppm-0001", looks)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["3D_FCN_PPM", "another", UNKNOWN, "winner", "stopped early"]
    figure.savefig(io.BytesIO(), format="svg")


def test_an_unknown_network_has_importances(unknown: Report) -> None:
    (axes,) = importance_bars(unknown.learned.importances, Looks([UNKNOWN])).axes
    assert axes.get_title() == f"{UNKNOWN}, 24 complete trials"
    assert {to_hex(bar.get_facecolor()) for bar in axes.patches} == {to_hex(axes.patches[0].get_facecolor())}


def test_an_unknown_network_is_in_the_figures_of_cases(unknown: Report) -> None:
    cases = unknown.summary.cases
    looks = Looks(names_in(unknown.content))
    for figure in (case_dice(cases, looks, KIDNEY_TUMOR), dice_by_volume(cases, looks, KIDNEY_TUMOR)):
        colors = {line.get_color() for line in figure.axes[0].get_lines()}
        assert {looks[UNKNOWN].color, looks["another"].color, looks["fcn_ppm"].color} <= colors
        assert UNKNOWN in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_stays_inside_the_figure(unknown: Report) -> None:
    program = "another program of 32 characters"
    dice = {"kidney": 0.5, "tumor": 0.5}
    cases = [replace(case, others={**case.others, program: dice}) for case in unknown.summary.cases]
    figure = case_dice(cases, Looks([*names_in(unknown.content), program]), KIDNEY_TUMOR)
    figure.savefig(io.BytesIO())
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 6
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_an_unknown_network_is_in_all_tables(unknown: Report) -> None:
    assert unknown.page is not None
    page = Path(unknown.page).read_text(encoding="utf-8")
    assert "odd$_{&lt;b&gt;net" in page and UNKNOWN not in page
    networks = [row.method.network for row in unknown.summary.standings]
    assert networks == ["fcn_ppm", "threshold_roi", "threshold_inside", "another", UNKNOWN]
    for table in ("table_one", "classes", "detection", "differences", "patient_dice", "trials", "learning_curves"):
        assert UNKNOWN in Path(unknown.content.folder.table_path(table)).read_text()


def test_a_program_has_no_paper_row(unknown: Report) -> None:
    papers = {row.method.network: row.paper for row in unknown.summary.standings}
    assert papers["fcn_ppm"] == NETWORKS["fcn_ppm"].paper
    assert papers[UNKNOWN] is None


def test_every_stage_of_the_declared_operations_has_a_title() -> None:
    assert list(STAGES) == ["network", "crf", "connectivity", "crf_connectivity", "final"]
    assert {operation.stage for operation in OPERATIONS.values()} <= STAGES.keys()
    assert stage_title("crf_connectivity") == "network + dense CRF + connectivity"


def test_an_unknown_stage_is_shown_by_its_name_before_the_final_one(finished_study: Path) -> None:
    assert stage_title("crf_smooth") == "crf smooth"
    assert sorted(["final", "crf_smooth", "crf", "network"], key=stage_place) == [
        "network",
        "crf",
        "crf_smooth",
        "final",
    ]
    rows = analyse(Results(str(finished_study)), Settings(resamples=200)).content.measurements or []
    assert {row.stage for row in standings_of(rows, KIDNEY_TUMOR, Settings(resamples=200))} == {
        "network",
        "crf",
        "final",
    }


def test_titles_of_unknown_names_are_the_names(finished_study: Path) -> None:
    assert title_of("nnU-Net") == "nnU-Net"
    assert "fcn_ppm" in names_in(load_results(Results(str(finished_study))))
