"""Settings of a study that takes seconds: four trials and two baselines on `ball_store`."""

from typing import Any, Final

TINY: Final[dict[str, Any]] = {
    "train": {
        "net": {"width": 4, "ppm_kernels": [1, 2]},
        "optim": {"base_rate": 0.05, "batch_size": 2},
        "patch": {"shape": [8, 16, 16]},
        "stitch": {"tile": [8, 20, 20], "stride": [4, 10, 10]},
        "epochs": 5,
        "steps_per_epoch": 4,
        "precision": "float32",
    },
    "space": {"kernel_sets": [[1, 2], [1], []], "first_step": [1, 3], "step_gap": [1, 2]},
    "search": {"num_trials": 4, "baseline_trials": 1, "num_startup_trials": 2, "reduction_factor": 3},
    "prepare": {"spacing_mm": [2.0, 2.0, 2.0]},
    "final": {"stitch": {"tile": [8, 20, 20], "stride": [4, 10, 10]}, "num_finalists": 2, "tuning_trials": 2},
}
