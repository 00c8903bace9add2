"""Figure of painted CT numbers beside the published ones."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from study.bench.data.hu_histogram import FIRST_HU, PUBLISHED, Histogram
from study.report.analysis.palette import FAINT, INK, PAPER_COLOR, WINNER_COLOR

_BIN_HU: Final = 8
_SHOWN_HU: Final = (-200, 450)
_COLORS: Final = {"wide": WINNER_COLOR, "narrow": FAINT}


def hu_figure(histograms: Mapping[str, Histogram], subject: str) -> Figure:
    """Draw the share of the voxels of kidneys and tumors by CT number.

    Args:
        histograms: voxels of each painter, by its name.
        subject: what the painters painted on, for the title.
    """
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    low, high = PUBLISHED["0.5 percentile"], PUBLISHED["99.5 percentile"]
    axes.axvspan(low, high, color=PAPER_COLOR, alpha=0.12, label="published, 0.5 to 99.5 percentile")
    axes.axvline(PUBLISHED["mean"], color=PAPER_COLOR, linestyle="--", label="published mean")
    for painter, counts in histograms.items():
        edges, shares = _binned(counts)
        axes.stairs(shares, edges, color=_COLORS[painter], linewidth=2, label=f"painted, {painter}")
    axes.set_xlim(_SHOWN_HU)
    axes.set_ylim(0)
    axes.set_xlabel("CT number of kidney and tumor (HU)", color=INK)
    axes.set_ylabel(f"share of the voxels per {_BIN_HU} HU", color=INK)
    axes.set_title(subject, loc="left", fontsize=10, color=INK)
    axes.legend(frameon=False)
    return figure


def _binned(counts: Histogram) -> tuple[np.ndarray, np.ndarray]:
    shares = counts.reshape(-1, _BIN_HU).sum(axis=1) / counts.sum()
    return FIRST_HU + _BIN_HU * np.arange(len(shares) + 1), shares
