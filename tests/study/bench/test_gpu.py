"""The benchmark for a GPU, on the processor: its checks find what is wrong, and it runs without Ray and SimpleITK."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from renalnet.runtime import storage
from study.bench.measuring.table import Row
from study.bench.networks import gpu
from study.bench.networks.exactness import BOUNDS, Check, checks, error_of, features, is_right, relative_error

SHAPE = (12, 16, 20)
ABSENT = ("ray", "optuna", "SimpleITK", "monai")
SETTINGS = ("network_shape=[24,32,32]", "network_rounds=1", "roi=[24,48,48]", "inference_steps=2", "inference_rounds=1")


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
def test_the_operations_are_right_on_the_processor(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = features(SHAPE).to(dtype).contiguous(memory_format=layout)
    errors = {check.name: error_of(check, x) for check in checks()}
    assert {name: error for name, error in errors.items() if not error <= BOUNDS[dtype]} == {}
    # A largest value is exact; everything else rounds.
    assert [name for name, error in errors.items() if error == 0] == ["maximum over cells of 2"]


def twice(x: Tensor) -> Tensor:
    return 2 * x


def test_wrong_results_and_wrong_gradients_are_found() -> None:
    x = features(SHAPE).float()
    assert error_of(Check("right", twice, twice), x) == 0
    # 3x instead of 2x is half of the largest value away, and so is its gradient.
    assert error_of(Check("wrong", lambda x: 3 * x, twice), x) == pytest.approx(0.5, rel=1e-6)
    # The part without a gradient leaves half of the gradient.
    assert error_of(Check("wrong gradient", lambda x: x + x.detach(), twice), x) == pytest.approx(0.5, rel=1e-6)
    lost = error_of(Check("not finite", twice, lambda x: x * torch.nan), x)
    assert not is_right(Row("gpu", "not finite", "share", lost, "bound", 1e-4, "less"))


def test_errors_by_hand() -> None:
    exact = torch.tensor([1.0, -4.0], dtype=torch.float64)
    assert relative_error(torch.tensor([2.0, -4.0]), exact) == 0.25
    assert is_right(Row("gpu", "", "share", 0.25, "bound", 0.25, "less"))
    assert not is_right(Row("gpu", "", "share", 0.26, "bound", 0.25, "less"))


def test_memory_is_compared_with_the_bound() -> None:
    measured = [Row("network", "peak memory", "MB", 5000.0, peer, 9000.0, "less") for peer in ("plain", "other")]
    (row,) = gpu.memory_rows([Row("network", "inference", "ms", 1.0), *measured])
    assert (row.what, row.ours, row.theirs, row.ratio) == ("peak memory of the paper's training step", 5000, 12000, 2.4)


@pytest.mark.slow
def test_it_needs_neither_ray_nor_simpleitk(tmp_path: Path) -> None:
    # Each of the processes reads this file when it starts. MONAI is left out to save the time of its processes.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n")
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "study.bench", "gpu", *words, "--out", str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.returncode == 0, done.stderr
    found = {row["what"]: row for row in storage.read_json(tmp_path / "rows.json")["rows"]}
    assert found["checks that fail"]["ours"] == 0
    assert found["weights that differ after a run resumes"]["ours"] == 0
    shares = [found[f"{task}, share of the roofline"]["ours"] for task in ("training step", "inference")]
    assert all(0 < share < 1.5 for share in shares)
    assert {row["bench"] for row in found.values()} == {"gpu"}
    assert {"training step", "inference", "peak memory"} <= found.keys()
