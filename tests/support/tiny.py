"""Settings of a study that takes seconds: four trials and two baselines on `ball_store`."""

from typing import Any, Final

from study.bench.measuring.tiny_study import SETTINGS

TINY: Final[dict[str, Any]] = {name: values for name, values in SETTINGS.items() if name != "resources"} | {
    "search": {"num_trials": 4, "baseline_trials": 1, "num_startup_trials": 2, "reduction_factor": 3},
}
