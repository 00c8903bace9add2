"""`renalnet prepare`: from a folder of scans to a store."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from renalnet.commands.options import (
    NUM_WORKERS,
    GridPreset,
    LabelMap,
    NumWorkers,
    Phase,
    Refit,
    Series,
    Set,
    SkipBad,
    Source,
    SplitsFile,
    StoreOut,
    TestSource,
)
from renalnet.commands.store import describe_store
from renalnet.runtime.progress_bars import stage_progress

if TYPE_CHECKING:
    from renalnet.config import PrepareConfig
    from renalnet.data.prepare.preparation import Checked
    from renalnet.data.prepare.request import Request
    from renalnet.runtime.workers import JobPool


def prepare(
    src: Source,
    out: StoreOut,
    test: TestSource = None,
    splits: SplitsFile = None,
    preset: GridPreset = None,
    set_: Set = None,
    label_map: LabelMap = None,
    series: Series = None,
    phase: Phase = None,
    skip_bad: SkipBad = False,
    refit: Refit = False,
    workers: NumWorkers = NUM_WORKERS,
) -> None:
    """Read, check, localise and cut scans. Write the ROIs as a new store, or add them to an existing one.

    After an interruption, the same command continues where it stopped. The findings of the checks are in
    OUT/validation.csv.
    """
    from renalnet.data.prepare.preparation import local_pool

    request = prepare_request(
        src, out, test, splits, preset, set_, label_map, series=series, phase=phase, skip_bad=skip_bad, refit=refit
    )
    with local_pool(workers) as pool:
        run_prepare(request, pool)


# Shared with `study.prepare`, which has the same options and runs the jobs on a cluster.
def prepare_request(
    src: Path,
    out: str,
    test: Path | None,
    splits: Path | None,
    preset: str | None,
    assignments: list[str] | None,
    label_map: str | None,
    *,
    series: str | None,
    phase: str | None,
    skip_bad: bool,
    refit: bool,
) -> "Request":
    """Return the request that the options of `prepare` describe. Raises ConfigError if an option is wrong."""
    from renalnet.config import override
    from renalnet.data.cases.loading import parse_label_map
    from renalnet.data.cases.splits import read_splits_file
    from renalnet.data.prepare.request import Request

    config = override(_base_config(out, preset, assignments or []), assignments or [])
    return Request(
        src=src,
        out=out,
        config=config,
        test_src=test,
        splits=read_splits_file(splits) if splits else None,
        label_map=parse_label_map(label_map, config.labels) if label_map else None,
        series=series,
        phase=phase,
        skip_bad=skip_bad,
        refit=refit,
    )


def _base_config(out: str, preset: str | None, assignments: list[str]) -> "PrepareConfig":
    """Return the configuration that the assignments change: that of the preset, else that of the store."""
    from renalnet.config import chosen_labels
    from renalnet.config.presets import DEFAULT_PRESET, prepare_preset
    from renalnet.data.store.reader import MANIFEST, open_store
    from renalnet.runtime import storage

    if preset is None and storage.exists(storage.join(out, MANIFEST)):
        return open_store(out).manifest.config
    return prepare_preset(preset or DEFAULT_PRESET, chosen_labels(assignments))


def run_prepare(request: "Request", pool: "JobPool") -> None:
    """Prepare a store. Print the findings of the checks, the cases that were written, and the store."""
    from renalnet.data.prepare.preparation import prepare as prepare_store

    with stage_progress() as show:
        summary = prepare_store(request, pool, show, _print_checked)
    console = Console()
    for skipped in summary.skipped:
        console.print(f"left out: {skipped}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{summary.num_added} cases written, {sum(summary.num_cases.values())} in the store")
    describe_store(str(request.out))


def _print_checked(checked: "Checked") -> None:
    from renalnet.data.cases.findings import group_findings

    console = Console()
    table = Table("", "this cohort", "the paper's", "remark", title="Cohort")
    for row in checked.rows:
        table.add_row(row.name, row.cohort, row.paper, row.remark)
    console.print(table)
    for group in group_findings(checked.findings):
        cases = ", ".join(group.cases) + (", …" if group.num_cases > len(group.cases) else "")
        # Messages name files, whose paths may hold square brackets, which rich reads as markup.
        line = f"{group.level}: {group.num_cases} × {group.code} ({cases}): {group.message}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if checked.findings:
        console.print(f"all findings: {checked.path}", highlight=False, markup=False, soft_wrap=True)
