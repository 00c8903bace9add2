"""`renalnet phantom`: a synthetic cohort on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from renalnet.commands.options import NUM_WORKERS, NumWorkers, Out, Set
from renalnet.runtime.progress_bars import stage_progress

if TYPE_CHECKING:
    from renalnet.data.phantom import CohortSummary


def phantom(
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of label maps (*.nii.gz) to paint on, instead of drawn anatomy.")
    ] = None,
    set_: Set = None,
    workers: NumWorkers = NUM_WORKERS,
) -> None:
    """Paint a cohort of synthetic scans in the KiTS layout.

    It also prints how well simple intensity thresholds segment the tumors, as a measure of how difficult the cohort is.
    """
    from renalnet.config import PhantomConfig, override
    from renalnet.data.phantom import write_cohort
    from renalnet.evaluation.intensity_rules import hu_counts

    config = override(PhantomConfig(), set_ or [])
    with stage_progress() as show:
        summary = write_cohort(
            out,
            config,
            labels_dir=labels,
            workers=workers,
            # Passed in, because `data` must not import `evaluation`. Voxels are counted while a case is in memory.
            measure=hu_counts,
            progress=lambda done, total: show("paint", done, total),
        )
    # A path may hold square brackets, which rich reads as markup, and a wrapped path cannot be copied.
    console = Console(markup=False, soft_wrap=True, highlight=False)
    console.print(f"{len(summary.cases)} cases ({summary.source}) in {summary.path}")
    _print_thresholds(console, summary)


def _print_thresholds(console: Console, summary: "CohortSummary") -> None:
    from renalnet.evaluation.intensity_rules import fit_inside_rule_to_counts, fit_window_rule_to_counts

    inside = fit_inside_rule_to_counts(summary.measures)
    window = fit_window_rule_to_counts(summary.measures)
    console.print(
        f"best single threshold inside the true kidney-and-tumor region: HU {'<' if inside.below else '>='} "
        f"{inside.threshold_hu}, mean tumor Dice {inside.tumor_dice:.3f}"
    )
    console.print(f"best HU windows over the whole image: mean tumor Dice {window.tumor_dice:.3f}")
