"""The cost of a study beside its trials: time above the ideal, the driver's memory, and the disk that weights take.

The trials sleep, so that many of them fit on a small machine. Searcher, scheduler, journal, records and retention are
those of a study.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from renalnet.config import MAIN_NETWORK, override
from renalnet.errors import ResultsError
from study.bench.measuring.size import Size
from study.bench.measuring.table import Row
from study.config.presets import quick
from study.config.sections import Slots, StudyConfig
from study.execution.own_ray import ask_for_token
from study.records.results import Results

WEIGHTS_KB: Final = 1024
"""Size of a sleeping trial's model where the disk is measured, in KiB."""


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the rows of long trials on few slots, of short trials on many, and of the disk that many trials take.

    Raises:
        ResultsError: a study failed.
    """
    for number, seconds, slots in (
        (size.long_trials, size.long_trial_s, size.long_slots),
        (size.short_trials, size.short_trial_s, size.short_slots),
    ):
        took, memory_mb = _in_own_process(folder / f"{number}-trials", number, seconds, slots, 0)
        # Trials run in waves of `slots`; the last wave takes as long as a full one.
        ideal = -(-number // slots) * seconds
        note = f"{took / ideal - 1:.1%} over the ideal of {ideal:.0f} s, from the first trial's start to the last's end"
        yield Row("study", f"{number} trials of {seconds:g} s, {slots} slots", "s", took, better="less", note=note)
        yield Row("study", f"driver's peak memory, {number} trials", "MB", memory_mb, better="less")
    yield _disk_row(size, folder / "disk")


def _disk_row(size: Size, folder: Path) -> Row:
    number = size.kept_trials
    _in_own_process(folder, number, 0.1, size.short_slots, WEIGHTS_KB)
    held = sum(path.stat().st_size for path in (folder / "trials").rglob("*") if path.is_file()) / 2**20
    note = f"without retention {number} trials of two checkpoints and a model would take {3 * number} MB"
    return Row("study", f"disk of {number} trials of 1 MB, best 5 kept", "MB", held, better="less", note=note)


def _in_own_process(results: Path, number: int, seconds: float, slots: int, weights_kb: int) -> tuple[float, float]:
    """Return the seconds of a study and the driver's peak memory in MB. Raises ResultsError where it fails."""
    words = [str(results), str(number), str(seconds), str(slots), str(weights_kb)]
    command = [sys.executable, "-m", "study.bench.search.overhead", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise ResultsError(f"the benchmark's study failed: {' '.join(last)}; run {' '.join(command)} by itself")
    took, memory_mb = done.stdout.split()[-2:]
    return float(took), float(memory_mb)


def _config(number: int) -> StudyConfig:
    # Many trials are to be as short as a trial can be.
    epochs = 1 if number > 500 else 3
    words = [f"search.num_trials={number}", "search.baselines=[]", "search.scheduler=none", f"train.epochs={epochs}"]
    return override(quick(), words)


def _main(arguments: Sequence[str]) -> None:
    """Run one study. The arguments are those of `_in_own_process`; the output is seconds and MB."""
    results = Results(arguments[0])
    seconds = float(arguments[2])
    number, num_slots, weights_kb = (int(arguments[n]) for n in (1, 3, 4))
    took = _run(results, _config(number), Slots(1, 0.0, num_slots), seconds, weights_kb)
    sys.stdout.write(f"{took} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}\n")


def _run(results: Results, config: StudyConfig, slots: Slots, seconds: float, weights_kb: int) -> float:
    """Run the trials of a study on a Ray of its own; return the seconds from the first start to the last end."""
    # Imported here, because the other benchmarks need neither Ray nor Optuna.
    import ray
    from ray import tune

    from study.bench.search.sleeper import Sleeper
    from study.execution.tuner import run_trials
    from study.search.journal import open_journal
    from study.search.searcher import NetworkSearch

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ask_for_token()
    Path(results.folder).mkdir(parents=True)
    ray.init("local", num_cpus=slots.num_slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    searcher = NetworkSearch(config, results, open_journal(results), {MAIN_NETWORK: {16: 16}}, slots)
    sleeper = tune.with_parameters(Sleeper, results=results, seconds=seconds, weights_kb=weights_kb)
    began = time.monotonic()
    run_trials(sleeper, searcher, searcher.scheduler, config, results, slots, lambda: None)
    took = time.monotonic() - began
    ray.shutdown()
    if searcher.num_left:
        raise ResultsError(f"{searcher.num_left} trials did not end; look into {results}")
    return took


if __name__ == "__main__":
    _main(sys.argv[1:])
