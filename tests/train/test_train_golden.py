"""The first losses of the smallest preset at a low learning rate, against those in `quick_losses.json`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support.balls import ball_roi

from renalnet.config import PrepareConfig
from renalnet.config.presets import quick
from renalnet.data.batches.cohort import load_cohort
from renalnet.data.store.writer import write_store
from renalnet.train.run import TrainingRun
from renalnet.types import Split

GOLDEN = Path(__file__).with_name("quick_losses.json")
NUM_STEPS = 12
BASE_RATE = 0.002
"""A hundredth of the preset's, at which a difference in rounding grows a hundredfold in a few steps: kernels differ by
PyTorch, instruction set and cache."""
TOLERANCE = 3e-3
"""Relative; three instruction sets differed by up to 1.3e-3."""


@pytest.mark.slow
def test_first_losses_of_the_quick_preset(tmp_path: Path) -> None:
    """With RENALNET_GOLDEN=write, this test writes the losses of this machine; use it after an intended change.

    The preset has its real sizes: batches of four crops of 24×32×32 from six balls, in float32 on one thread.
    """
    splits: list[Split] = ["train"] * 6 + ["validation"]
    rois = [ball_roi(f"case_{number:05d}", split, number, scale=2) for number, split in enumerate(splits)]
    store = write_store(tmp_path / "store", rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0)))
    preset = quick()
    optim = preset.optim.model_copy(update={"base_rate": BASE_RATE})
    config = preset.model_copy(update={"precision": "float32", "compile": "off", "optim": optim})
    losses: list[float] = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cohort = load_cohort(store)
    list(
        TrainingRun(
            config,
            cohort,
            str(tmp_path / "run"),
            should_stop=lambda: len(losses) >= NUM_STEPS,
            on_step=lambda report: losses.append(report.loss),
        )
    )
    torch.set_num_threads(before)
    cohort.close()
    if os.environ.get("RENALNET_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(losses) + "\n")
    np.testing.assert_allclose(losses, json.loads(GOLDEN.read_text()), rtol=TOLERANCE)
