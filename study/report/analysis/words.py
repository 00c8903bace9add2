"""Numbers and configurations as people read them; shared by the terminal and the page."""

from collections.abc import Mapping
from datetime import datetime

from renalnet.evaluation.detection import Rate
from study.records.tables import Spread, Trial
from study.report.analysis.search import Hours, Rung
from study.report.analysis.statistics import Difference, Estimate

NONE = "–"


def mean_sd(value: Estimate | Spread | None, digits: int = 3) -> str:
    """`0.912 ± 0.031`; a single patient or run has no sd."""
    if value is None:
        return NONE
    spread = "" if value.sd is None else f" ± {value.sd:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def spread(value: Spread | None) -> str:
    """`0.912 ± 0.031 (3)`, with the number of runs."""
    return NONE if value is None else f"{mean_sd(value)} ({value.num})"


def interval(low: float, high: float, digits: int = 3) -> str:
    """`0.880 to 0.931`: with "to", because bounds of differences may be negative."""
    return f"{low:.{digits}f} to {high:.{digits}f}"


def signed(value: Difference) -> str:
    """`+0.120 (+0.080 to +0.160)`."""
    return f"{value.mean:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def p_value(value: float) -> str:
    """Three digits; smaller ones as a bound, since more digits would mean nothing."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def rate(value: Rate) -> str:
    """`0.912 (0.880 to 0.931)`, or words where there is nothing to take a rate of."""
    if value.value is None:
        return "not defined: nobody to count"
    return f"{value.value:.3f} ({interval(value.interval.low, value.interval.high)})"


def counted_rate(value: Rate) -> str:
    """A rate with what it counts: `0.900 (0.596 to 0.982), 9 of 10`."""
    return f"{rate(value)}, {value.successes} of {value.total}" if value.total else rate(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """`41 s`, `3.5 min` or `2.25 h`."""
    if seconds is None:
        return NONE
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.2f} h"


def moment(iso: str) -> str:
    """A time as `2024-05-04 10:20 UTC+02:00`; text that is no ISO time stays as it is."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return iso


def weights(trial: Trial) -> str:
    """Loss weights as `tumor 2, kidney 1, background 0.2`."""
    named = {
        "tumor": trial.weight_tumor,
        "kidney": trial.weight_kidney,
        "background": trial.weight_background,
    }
    return ", ".join(f"{name} {value:.3g}" for name, value in named.items() if value is not None) or NONE


def configuration(trial: Trial) -> str:
    """The searched values of a trial on one line."""
    kernels = f"kernels {trial.ppm_kernels} · " if trial.ppm_kernels else ""
    return f"{kernels}weights {weights(trial)} · milestones {trial.milestones or NONE}"


def saved(hours: Hours) -> str:
    """What pruning saved, of GPUs where there are any."""
    value, device = (hours.gpu_saved, "GPU") if hours.gpu else (hours.cpu_saved, "CPU")
    return f"{value:.2f} {device} saved by pruning"


def rung(value: Rung) -> str:
    """How far the order at a rung was the final one."""
    known = "not defined" if value.correlation is None else f"{value.correlation:.2f}"
    where = f"{value.network}, {value.age} epochs behind the first step"
    return f"{where}: rank correlation with the end {known} ({value.num} whole trials)"


def ensemble(num_members: int) -> str:
    """` · ensemble of 3 networks`; nothing of a single one."""
    return f" · ensemble of {num_members} networks" if num_members > 1 else ""


def counts(states: Mapping[str, int]) -> str:
    """`7 complete · 2 pruned · 1 failed`, in a fixed order, unknown states last."""
    order = ["complete", "pruned", "failed", "running"]
    names = [name for name in order if name in states] + sorted(states.keys() - set(order))
    return " · ".join(f"{states[name]} {name}" for name in names) or "none yet"
