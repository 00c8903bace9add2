"""The report on a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.report.analysis import words
from study.report.analysis.contents import Report
from study.report.analysis.detection import Detected
from study.report.analysis.paper import FOOTNOTES, NOT_COMPARABLE, PaperRow
from study.report.analysis.summary import STAGES, Standing

_WIDE = 118
"""Columns of a terminal from which the paper's numbers have columns of their own."""
_MEASURES = ("Dice\nkidney", "Dice\ntumor", "distance\nkidney (px)", "distance\ntumor (px)")


def print_report(report: Report, console: Console) -> None:
    """Print Table I, the winner, detection, the state of the trials and where the page is."""
    manifest = report.results.manifest
    _say(console, f"Study {manifest.study} · {manifest.data.source}", style="bold")
    if manifest.data.synthetic:
        _say(console, "SYNTHETIC IMAGES: painted, not scanned.", style="bold yellow")
    for sentence in report.summary.missing:
        _say(console, f"Not there yet: {sentence}", style="yellow")
    if report.summary.standings:
        console.print(table_one(report.summary.standings, wide=console.width >= _WIDE))
        for line in (NOT_COMPARABLE, *FOOTNOTES):
            _say(console, line, style="dim")
    _print_winner(report, console)
    _print_detection(report.detections, console)
    _print_trust(report, console)
    _print_cost(report, console)


def table_one(standings: list[Standing], *, wide: bool) -> Table:
    """The paper's Table I with ours beside it: in columns of their own if `wide`, else below ours."""
    num = standings[0].dice_tumor.num
    table = Table(
        title=f"Table I · test patients: {num} ours, 50 the paper's · mean ± sd",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("", min_width=16)
    for measure in _MEASURES:
        table.add_column(f"{measure}\nours" if wide else measure, justify="right", no_wrap=True)
        if wide:
            table.add_column("\n\npaper", justify="right", no_wrap=True, style="dim")
    for standing in standings:
        title = Text(standing.method.title, style="bold" if standing.method.role == "winner" else "")
        pairs = list(zip(_ours(standing), _papers(standing.paper), strict=True))
        if wide:
            cells = [cell for pair in pairs for cell in pair]
        else:
            title.append("\n  paper" if standing.paper else "", style="dim")
            cells = ["\n".join(pair) if standing.paper else pair[0] for pair in pairs]
        table.add_row(title, *cells)
    return table


def _ours(row: Standing) -> list[str]:
    dice = [words.mean_sd(value) for value in (row.dice_kidney, row.dice_tumor)]
    return dice + [words.mean_sd(value, 2) for value in (row.distance_kidney_px, row.distance_tumor_px)]


def _papers(row: PaperRow | None) -> list[str]:
    if row is None:
        return [words.NONE] * len(_MEASURES)
    distances = [f"{mean:.2f} ± {sd:.2f}" for mean, sd in (row.distance_kidney_px, row.distance_tumor_px)]
    return [f"{row.dice_kidney:.3f}", f"{row.dice_tumor:.3f}", *distances]


def _print_winner(report: Report, console: Console) -> None:
    winner, summary = report.summary.winner, report.summary
    if winner is not None:
        label = "Best trial so far" if summary.is_provisional else "Winner"
        paper = " (the paper's own point)" if winner.is_paper_point else ""
        together = words.ensemble(report.results.selection.num_members(winner.name))
        _say(console, f"{label}: {winner.name}{paper} · {words.configuration(winner)}{together}", style="bold")
    for stage in summary.stages:
        values = f"kidney {words.mean_sd(stage.dice_kidney)}, tumor {words.mean_sd(stage.dice_tumor)}"
        _say(console, f"  Dice, {STAGES.get(stage.stage, stage.stage)}: {values}")
    for margin in summary.margins:
        if margin.label == "tumor":
            lead = f"{words.signed(margin.difference)}, p {words.p_value(margin.p_holm)} (Holm)"
            _say(console, f"  tumor Dice over {margin.other.title}: {lead}")


def _print_detection(detections: list[Detected], console: Console) -> None:
    for found in detections:
        if found.method.role == "winner":
            _say(console, "Tumor detection of the winner", style="bold")
            _say(console, f"  voxels:   sensitivity {words.rate(found.voxel.sensitivity)}")
            _say(console, f"            specificity {words.rate(found.voxel.specificity)}")
            _say(console, f"  patients: sensitivity {words.counted_rate(found.patient.sensitivity)}")
            _say(console, f"            specificity {words.counted_rate(found.patient.specificity)}")


def _print_trust(report: Report, console: Console) -> None:
    trust = report.summary.trust
    if trust is not None:
        bounds = words.interval(trust.low, trust.high, 2)
        _say(console, f"Masks ranked without truth: rank correlation with tumor Dice {trust.value:.2f} ({bounds})")
    for one in report.added:
        if one.missing:
            _say(console, f"{one.name}: no mask of {len(one.missing)} test patients, left out of its means", "yellow")


def _print_cost(report: Report, console: Console) -> None:
    hours = report.summary.hours
    _say(console, f"Trials: {words.counts(report.summary.states)}")
    if report.summary.repeat_states:
        _say(console, f"Repeats of finalists: {words.counts(report.summary.repeat_states)}")
    for trial in report.summary.failed:
        _say(console, f"  failed {trial.name}: {trial.reason or 'no reason was noted'}", style="yellow")
    _say(console, f"Hours: {hours.wall:.2f} wall · {hours.gpu:.2f} GPU · {hours.cpu:.2f} CPU · {words.saved(hours)}")
    for rung in report.summary.rungs:
        _say(console, f"Rung {words.rung(rung)}")
    for warning in report.results.manifest.warnings:
        _say(console, f"Warning: {warning}", style="yellow")
    if report.page is not None:
        _say(console, f"Report: {report.page}", style="bold")


def _say(console: Console, text: str, style: str = "") -> None:
    """Print plain text: names may hold what rich would take for markup."""
    console.print(Text(text, style=style), soft_wrap=True)
