"""What a study costs beside its trials: time over the ideal, the driver's memory, and the disk that weights take.

Trials sleep, so that many fit on a small machine; searcher, scheduler, journal, records and retention are a study's.
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

WEIGHTS_KB: Final = 1024
"""Of a sleeping trial's model where disk is measured."""


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Long trials on few slots, short ones on many, and what many leave on the disk. Raises ResultsError."""
    for number, seconds, slots in (
        (size.long_trials, size.long_trial_s, size.long_slots),
        (size.short_trials, size.short_trial_s, size.short_slots),
    ):
        took, memory_mb = _in_own_process(folder / f"{number}-trials", number, seconds, slots, 0)
        ideal = -(-number // slots) * seconds
        note = f"{took / ideal - 1:.1%} over the ideal of {ideal:.0f} s, from the first trial's start to the last's end"
        yield Row("study", f"{number} trials of {seconds:g} s, {slots} slots", "s", took, better="less", note=note)
        yield Row("study", f"driver's peak memory, {number} trials", "MB", memory_mb, better="less")
    number = size.kept_trials
    _in_own_process(folder / "disk", number, 0.1, size.short_slots, WEIGHTS_KB)
    held = sum(path.stat().st_size for path in (folder / "disk" / "trials").rglob("*") if path.is_file()) / 2**20
    note = f"without retention {number} trials of two checkpoints and a model would take {3 * number} MB"
    yield Row("study", f"disk of {number} trials of 1 MB, best 5 kept", "MB", held, better="less", note=note)


def _in_own_process(results: Path, number: int, seconds: float, slots: int, weights_kb: int) -> tuple[float, float]:
    """Seconds and the driver's peak memory in MB. Raises ResultsError."""
    words = [str(results), str(number), str(seconds), str(slots), str(weights_kb)]
    command = [sys.executable, "-m", "study.bench.search.overhead", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise ResultsError(f"the benchmark's study failed: {' '.join(last)}; run {' '.join(command)} by itself")
    took, memory_mb = done.stdout.split()[-2:]
    return float(took), float(memory_mb)


def _config(number: int) -> StudyConfig:
    epochs = 1 if number > 500 else 3
    words = [f"search.num_trials={number}", "search.baselines=[]", "search.scheduler=none", f"train.epochs={epochs}"]
    return override(quick(), words)


def _main(arguments: Sequence[str]) -> None:
    import ray
    from ray import tune

    from study.bench.search.sleeper import Sleeper
    from study.execution.tuner import run_trials
    from study.search.journal import open_journal
    from study.search.scheduler import NetworkScheduler
    from study.search.searcher import NetworkSearch

    results, (number, num_slots, weights_kb) = arguments[0], (int(arguments[n]) for n in (1, 3, 4))
    seconds, config = float(arguments[2]), _config(number)
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    Path(results).mkdir(parents=True)
    ray.init("local", num_cpus=num_slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    slots = Slots(1, 0.0, num_slots)
    searcher = NetworkSearch(config, results, open_journal(results), {MAIN_NETWORK: {16: 16}}, slots)
    scheduler = NetworkScheduler(config, results, searcher.heard(), searcher.on_prune)
    sleeper = tune.with_parameters(Sleeper, results=results, seconds=seconds, weights_kb=weights_kb)
    began = time.monotonic()
    run_trials(sleeper, searcher, scheduler, config, results, slots, lambda: None)
    took = time.monotonic() - began
    ray.shutdown()
    if searcher.num_left:
        raise ResultsError(f"{searcher.num_left} trials did not end; look into {results}")
    sys.stdout.write(f"{took} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
