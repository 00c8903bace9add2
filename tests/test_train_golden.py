"""The first losses of the smallest preset, against those kept in `golden/quick_losses.json`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from balls import ball_roi

from renalnet.config import PrepareConfig
from renalnet.data.cohort import load_cohort
from renalnet.data.store_writer import write_store
from renalnet.nets import fused
from renalnet.presets import quick
from renalnet.train import TrainingRun
from renalnet.types import Split

GOLDEN = Path(__file__).parent / "golden" / "quick_losses.json"
NUM_STEPS = 12
TOLERANCE = 1e-4
"""Relative. At the preset's rate a difference in rounding grows a hundredfold in a few steps, so that losses are kept
for each PyTorch, instruction set and kind of BatchNorm; the first loss, of the first weights, is the same on all."""


def kind() -> str:
    norms = "fused" if fused.is_compiled() else "plain"
    return f"{'.'.join(torch.__version__.split('.')[:2])} {torch.backends.cpu.get_cpu_capability()} {norms}"


def test_first_losses_of_the_quick_preset(tmp_path: Path) -> None:
    """`RENALNET_GOLDEN=write pytest tests/test_train_golden.py` writes those of this machine, where a change is meant.

    `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2` before it makes a newer processor an older one. The preset at
    its real sizes: batches of four crops of 24×32×32 of six balls, float32, one thread.
    """
    splits: list[Split] = ["train"] * 6 + ["validation"]
    rois = [ball_roi(f"case_{number:05d}", split, number, scale=2) for number, split in enumerate(splits)]
    store = write_store(tmp_path / "store", rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0)))
    config = quick().model_copy(update={"precision": "float32", "compile": "off"})
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
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("RENALNET_GOLDEN") == "write":
        golden[kind()] = losses
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(golden, indent=2) + "\n")
    assert len(losses) == NUM_STEPS and losses[-1] < losses[0] / 2
    for expected in golden.values():
        assert losses[0] == pytest.approx(expected[0], rel=TOLERANCE)
    if kind() not in golden:
        pytest.skip(f"no losses are kept for {kind()}")
    np.testing.assert_allclose(losses, golden[kind()], rtol=TOLERANCE)
