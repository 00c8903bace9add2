"""Numbers, rates and configurations as text; shared by the terminal, the page and the Markdown summary."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from renalnet.config.labels import KIDNEY, TUMOR
from renalnet.config.networks import PaperRow
from renalnet.evaluation.detection import Rate
from study.records.documents import Spread
from study.records.tables import Trial
from study.report.analysis.methods import title_of
from study.report.analysis.search import Hours, Rung
from study.report.analysis.statistics import Difference, Estimate, cases_for
from study.report.analysis.summary import Margin

_SIGNIFICANT = 0.05
NONE = "–"
"""Stands for a value that does not exist."""


def mean_sd(value: Estimate | Spread | None, digits: int = 3) -> str:
    """Return `0.912 ± 0.031`: mean and standard deviation, which a single case or run does not have."""
    if value is None:
        return NONE
    spread = "" if value.sd is None else f" ± {value.sd:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def spread(value: Spread | None) -> str:
    """Return `0.912 ± 0.031 (3)`: mean, standard deviation and number of runs."""
    return NONE if value is None else f"{mean_sd(value)} ({value.num})"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return `0.880 to 0.931`; with "to" and not a dash, because bounds of differences may be negative."""
    return f"{low:.{digits}f} to {high:.{digits}f}"


def signed(value: Difference) -> str:
    """Return `+0.120 (+0.080 to +0.160)`: mean difference and its interval."""
    return f"{value.mean:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def p_value(value: float) -> str:
    """Return three digits, or `< 0.001`: the test is not more precise than that."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def power(margins: Sequence[Margin]) -> str:
    """Return what the tests of these margins can show at all; empty without margins."""
    if not margins:
        return ""
    sizes = sorted({margin.difference.num for margin in margins})
    cases = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    least = min(margin.least_p_holm for margin in margins)
    text = f"With {cases} cases and {len(margins)} comparisons, no p below {least:.2g} is possible after Holm"
    if least < _SIGNIFICANT:
        return f"{text}."
    needed = cases_for(_SIGNIFICANT, len(margins))
    return (
        f"{text}, even if one method is better in every case: these tests cannot show a difference. They need at least "
        f"{needed} cases that have the label."
    )


def rate(value: Rate) -> str:
    """Return `0.912 (0.880 to 0.931)`: a rate and its interval, or that there is no case to count."""
    if value.value is None:
        return "not defined (no case to count)"
    return f"{value.value:.3f} ({interval(value.interval.low, value.interval.high)})"


def counted_rate(value: Rate) -> str:
    """Return `0.900 (0.596 to 0.982), 9 of 10`: a rate, its interval and its counts."""
    return f"{rate(value)}, {value.successes} of {value.total}" if value.total else rate(value)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash for None."""
    return NONE if value is None else f"{value:.{digits}f}"


def paper_dice(row: PaperRow | None, label: str) -> str:
    """Return the paper's Dice of a label; a dash where the paper has none."""
    known = {KIDNEY: row.dice_kidney, TUMOR: row.dice_tumor} if row else {}
    return number(known.get(label))


def paper_distance(row: PaperRow | None, label: str) -> str:
    """Return `4.24 ± 1.55`: the paper's distance of a label in pixels; a dash where the paper has none."""
    known = {KIDNEY: row.distance_kidney_px, TUMOR: row.distance_tumor_px} if row else {}
    return "{:.2f} ± {:.2f}".format(*known[label]) if label in known else NONE


def duration(seconds: float | None) -> str:
    """Return `41 s`, `3.5 min` or `2.25 h`; a dash for None."""
    if seconds is None:
        return NONE
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.2f} h"


def moment(iso: str) -> str:
    """Return a time as `2024-05-04 10:20 UTC+02:00`; text that is not an ISO time is returned unchanged."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return iso


def weights(trial: Trial) -> str:
    """Return the loss weights as `tumor 2, kidney 1, background 0.2`."""
    known = {name.replace("_", " "): value for name, value in trial.weights.items() if value is not None}
    return ", ".join(f"{name} {value:.3g}" for name, value in known.items()) or NONE


def configuration(trial: Trial) -> str:
    """Return pooling kernels, loss weights and milestones of a trial on one line."""
    kernels = f"kernels {trial.ppm_kernels} · " if trial.ppm_kernels else ""
    return f"{kernels}weights {weights(trial)} · milestones {trial.milestones or NONE}"


def saved(hours: Hours) -> str:
    """Return the hours that pruning saved: GPU hours if the study used GPUs, else CPU hours."""
    device = "GPU" if hours.gpu else "CPU"
    value = hours.gpu_saved if hours.gpu else hours.cpu_saved
    return f"{value:.2f} {device} saved by pruning"


def rung(value: Rung) -> str:
    """Return how well the order of the trials at a rung agrees with their final order."""
    known = "not defined" if value.correlation is None else f"{value.correlation:.2f}"
    age = f"{value.age} epoch" if value.age == 1 else f"{value.age} epochs"
    where = f"{title_of(value.network)}, {age} after the first milestone"
    return f"{where}: rank correlation with the final objective {known} ({value.num} complete trials)"


def ensemble(num_members: int) -> str:
    """Return ` · ensemble of 3 networks`, or an empty text for a single network."""
    return f" · ensemble of {num_members} networks" if num_members > 1 else ""


def counts(states: Mapping[str, int]) -> str:
    """Return `7 complete · 2 pruned · 1 failed`, in a fixed order with unknown states last."""
    order = ["complete", "pruned", "failed", "paused", "running"]
    names = [name for name in order if name in states] + sorted(states.keys() - set(order))
    return " · ".join(f"{states[name]} {name}" for name in names) or "none yet"
