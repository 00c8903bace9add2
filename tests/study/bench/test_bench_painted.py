"""Statistics of painted CT numbers, by hand and of small cohorts; localisers that learn without a setting."""

from pathlib import Path

import numpy as np
import pytest

from renalnet.config import PhantomConfig
from study.bench.data import held_out
from study.bench.data.held_out import LEFT_OUT
from study.bench.data.hu_histogram import PUBLISHED, histogram, statistics
from study.bench.data.painted import rows
from study.bench.data.painted_figure import hu_figure
from study.bench.measuring.size import Size


def test_statistics_by_hand() -> None:
    counts = np.zeros(4096, np.int64)
    counts[1024 + 100] = 500
    counts[1024 + 200] = 490
    counts[1024 - 50] = 10
    found = statistics(counts)
    assert found["mean"] == pytest.approx(147.5)
    assert found["standard deviation"] == pytest.approx((0.5 * 47.5**2 + 0.49 * 52.5**2 + 0.01 * 197.5**2) ** 0.5)
    assert (found["0.5 percentile"], found["99.5 percentile"]) == (-50, 200)


def test_the_figure_shows_each_painter_by_hand() -> None:
    counts = np.zeros(4096, np.int64)
    counts[1024 + 100] = 3
    counts[1024 + 103] = 1  # the same bin of 8 HU, from 96 to 104
    counts[1024 + 104] = 4
    axes = hu_figure({"wide": counts}, "by hand").axes[0]
    (stairs,) = axes.patches[-1:]
    values, edges, _ = stairs.get_data()  # type: ignore[attr-defined]
    assert edges[np.flatnonzero(values)].tolist() == [96, 104]
    assert values[values > 0].tolist() == [0.5, 0.5]


@pytest.mark.slow
def test_wide_kidneys_vary_more_than_narrow_ones() -> None:
    wide, narrow = (statistics(histogram(contrast, 4, None)) for contrast in ("wide", "narrow"))
    assert wide["standard deviation"] > narrow["standard deviation"] + 4
    assert wide["mean"] < narrow["mean"]


@pytest.mark.slow
def test_kidneys_painted_on_real_label_maps_are_as_published(real_data: Path, tmp_path: Path) -> None:
    size = Size(painted_cases=30, label_maps=str(real_data / "kits19_rois" / "train"))
    found = {row.what: row for row in rows(size, tmp_path) if "wide painter" in row.note}
    assert found.keys() == PUBLISHED.keys()
    for what, published in PUBLISHED.items():
        assert found[what].ours == pytest.approx(published, rel=0.15)


def test_what_is_left_out_is_what_is_tested() -> None:
    everything = PhantomConfig()
    for left_out in LEFT_OUT[:-1]:
        ((field, learnt),) = left_out.training.items()
        ((tested_field, tested),) = left_out.testing.items()
        assert field == tested_field
        assert sorted([*learnt, *tested]) == sorted(getattr(everything, field))


@pytest.mark.slow
def test_a_localiser_is_trained_and_measured_for_each_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "LEFT_OUT", LEFT_OUT[:1])
    size = Size(held_out_abdomens=2, localiser_phantoms=2, localiser_steps=2)
    found = list(held_out.rows(size, tmp_path))
    assert [row.what for row in found][:2] == ["kidneys found with confidence", "kidneys of which the box holds 99.5%"]
    assert all(row.ours is not None for row in found)
    assert (tmp_path / "localiser-0.safetensors").exists()
