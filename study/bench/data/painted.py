"""Benchmark of the painter: CT numbers of painted kidneys and tumors beside the published ones of real patients."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from study.bench.data.hu_histogram import PUBLISHED, Contrast, histogram, statistics
from study.bench.data.painted_figure import hu_figure
from study.bench.measuring.size import Size
from study.bench.measuring.table import FIGURE, Row


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the statistics of both painters beside the published ones; their figure is written into `folder`."""
    subject = f"{size.painted_cases} {'label maps' if size.label_maps else 'drawn abdomens'}"
    histograms = {contrast: histogram(contrast, size.painted_cases, size.label_maps) for contrast in get_args(Contrast)}
    hu_figure(histograms, f"Painted on {subject}").savefig(folder / FIGURE, dpi=110)
    for contrast, counts in histograms.items():
        found = statistics(counts)
        for what, published in PUBLISHED.items():
            note = f"kidneys and tumors, {contrast} painter, {subject}"
            yield Row("painted", what, "HU", found[what], "KiTS19, published", published, note=note)
