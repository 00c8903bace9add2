"""Backends of inference: OpenVINO against PyTorch, the choice between them, and what is refused."""

import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bundles import ROI, make_bundle
from torch import Tensor

from renalnet.config import KIDNEY_TUMOR, NetConfig, NetName, Normalisation, StitchConfig
from renalnet.data.images.volume import Volume, write_volume
from renalnet.errors import ConfigError
from renalnet.inference.backends import choice
from renalnet.inference.backends.backend import Prepared, Workload
from renalnet.inference.backends.choice import CheckedBackend, FastestBackend, agreement, backend_of
from renalnet.inference.backends.openvino_backend import OpenVinoBackend
from renalnet.inference.backends.torch_backend import TorchBackend
from renalnet.inference.segmentation import segment_by
from renalnet.nets import SegmentationNet, build_net
from renalnet.nets.folded import folded
from renalnet.prediction.scan_jobs import ModelUse, list_jobs, predict_scan
from renalnet.runtime import storage
from renalnet.runtime.device import Device
from renalnet.types import Shape

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is optional")
CPU = torch.device("cpu")
FLOAT32 = Device(CPU, use_bfloat16=False)
TORCH_NAME = f"torch {torch.__version__}, float32"
NO_NETWORK = """
import sys
events = []
sys.addaudithook(lambda name, args: events.append(name) if name.startswith("socket.") else None)
import torch
from renalnet.inference.backends.backend import Workload
from renalnet.inference.backends.openvino_backend import OpenVinoBackend
OpenVinoBackend([torch.nn.Conv3d(1, 2, 3)], use_bfloat16=False).prepared(Workload(torch.zeros(1, 1, 4, 4, 4), 1))
import openvino.tools.ovc.telemetry_stub
print(events)
"""
"""Imports OpenVINO and converts a network; prints the names of all uses of the network."""


def undecided_net(name: NetName) -> SegmentationNet:
    """Return an untrained network that gives some voxels each label."""
    net = build_net(NetConfig(name=name, width=8, ppm_kernels=(1, 2, 4)), KIDNEY_TUMOR)
    with torch.no_grad():
        net(torch.rand(2, 1, 12, 20, 20))  # statistics that are not the first ones
        net.head.get_parameter("bias").sub_(net.eval()(torch.rand(2, 1, 12, 20, 20)).mean((0, 2, 3, 4)))
    return net


def work(shape: Shape, count: int = 1) -> Workload:
    return Workload(torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(1)), count)


@pytest.mark.slow
@needs_openvino
@pytest.mark.parametrize(
    "name",
    ["fcn_ppm", pytest.param("unet3d", marks=pytest.mark.slow), pytest.param("pspnet2d", marks=pytest.mark.slow)],
)
def test_openvino_gives_the_labels_of_pytorch(name: NetName) -> None:
    """The sub-volume has odd sizes, for which the networks pad, crop, and average cells beyond the end."""
    net = undecided_net(name)
    todo = work((21, 42, 37))
    by_torch = TorchBackend([folded(net, torch.float32)], FLOAT32).prepared(todo)
    other = OpenVinoBackend([net], use_bfloat16=False).prepared(todo)
    assert other.backend.startswith("openvino 2026.4") and other.backend.endswith(", float32")
    assert agreement(by_torch, other, todo.example) >= 0.9999
    (forward,) = other.forwards
    (reference,) = by_torch.forwards
    two = torch.cat([todo.example, 0.5 * todo.example])
    with torch.inference_mode():
        torch.testing.assert_close(forward(two), reference(two).contiguous(), atol=1e-4, rtol=1e-4)
        assert len(forward(two).argmax(dim=1).unique()) > 1


@needs_openvino
@pytest.mark.slow
def test_openvino_sends_nothing(tmp_path: Path) -> None:
    """Neither its import nor a conversion opens a socket, and no identifier is written into the home folder."""
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "intel").exists()


@needs_openvino
@pytest.mark.slow
def test_predict_says_which_backend_it_used(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", [])
    image = np.random.default_rng(0).integers(-200, 400, ROI.shape).astype(np.int16)
    write_volume(tmp_path / "scan.nii.gz", Volume(image, ROI))
    masks = {}
    for backend, name in (("openvino", "openvino 2026.4"), ("torch", TORCH_NAME), ("auto", TORCH_NAME)):
        (job,) = list_jobs([tmp_path / "scan.nii.gz"], ModelUse(bundle, (), backend), str(tmp_path / backend))
        assert not predict_scan(job).failure
        (used,) = storage.read_json(f"{job.stem}.json")["backends"]
        assert used.startswith(name)
        masks[backend] = ModelUse(bundle, (), backend).load().segment_file(job.scan).mask.array
    assert masks["torch"].any() and (masks["openvino"] == masks["torch"]).mean() >= 0.9999


@dataclass
class Constant:
    """A backend of one network that gives all voxels one label, after some time."""

    name: str
    label: int = 0
    seconds: float = 0.0
    num_prepared: int = 0

    def prepared(self, work: Workload) -> Prepared:
        self.num_prepared += 1
        return Prepared(self.name, (self._forward,), CPU)

    def _forward(self, sub_volumes: Tensor) -> Tensor:
        time.sleep(self.seconds)
        logits = torch.zeros(len(sub_volumes), 3, *sub_volumes.shape[2:])
        logits[:, self.label] = 1
        return logits


class Broken:
    def prepared(self, work: Workload) -> Prepared:
        raise RuntimeError("no rule for aten::op")


def test_the_faster_backend_is_taken() -> None:
    quick, slow = Constant("quick"), Constant("slow", seconds=0.1)
    assert FastestBackend(slow, quick, 1.0, preparation_s=0.0).prepared(work((2, 3, 4))).backend == "quick"
    assert FastestBackend(quick, slow, 1.0, preparation_s=0.0).prepared(work((2, 3, 4))).backend == "quick"


def test_short_work_is_left_to_pytorch() -> None:
    """0.02 s for a sub-volume: 20 of them are less than four seconds, 300 more are not."""
    other = Constant("other")
    backend = FastestBackend(Constant("torch", seconds=0.02), other, 1.0, preparation_s=4.0)
    assert backend.prepared(work((2, 3, 4), count=20)).backend == "torch" and not other.num_prepared
    assert backend.prepared(work((9, 9, 9), count=20)).backend == "torch" and not other.num_prepared
    assert backend.prepared(work((2, 3, 4), count=300)).backend == "other"
    num_before = other.num_prepared
    assert backend.prepared(work((2, 3, 4), count=1)).backend == "other"
    assert other.num_prepared == num_before + 1  # not timed again


def test_a_backend_of_other_labels_or_without_a_result_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    slow = Constant("torch", seconds=0.02)
    other = Constant("other", label=1)
    assert FastestBackend(slow, other, 0.5, preparation_s=0.0).prepared(work((2, 3, 4))).backend == "torch"
    assert FastestBackend(slow, Broken(), 0.5, preparation_s=0.0).prepared(work((2, 3, 4))).backend == "torch"
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "other gives PyTorch's labels to only 0.0000 of the voxels; not used"
    assert second == "the other backend failed with RuntimeError: no rule for aten::op; PyTorch is used"


def test_a_named_backend_of_other_labels_is_refused() -> None:
    same = CheckedBackend(Constant("torch"), Constant("other"), 0.9999).prepared(work((2, 3, 4)))
    assert same.backend == "other"
    with pytest.raises(ConfigError, match=r"backend other: its labels are PyTorch's in 0\.0000% .* at least 99\.99%"):
        CheckedBackend(Constant("torch"), Constant("other", label=2), 0.9999).prepared(work((2, 3, 4)))


def test_the_sub_volumes_of_an_roi_are_announced() -> None:
    """12 slices by 8 with stride 4 are 2 sub-volumes, 10 rows by 10 one; two mirrored axes make that 8."""
    seen = []

    class Seen(Constant):
        def prepared(self, work: Workload) -> Prepared:
            seen.append((tuple(work.example.shape), work.count, float(work.example.mean())))
            return super().prepared(work)

    image = np.full((12, 10, 6), 150, np.int16)
    config = StitchConfig(tile=(8, 10, 10), stride=(4, 5, 5), mirror=("z", "x"))
    vote, name = segment_by(Seen("constant", label=2), image, Normalisation(-200, 500, 0.25), config, 3)
    # 350 of 700 HU above the lowest one are a half, from which the mean of a quarter is taken.
    assert seen == [((1, 1, 8, 10, 6), 8, pytest.approx(0.25))] and name == "constant"
    assert (vote.labels == 2).all()


def test_a_backend_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Device(torch.device("cuda"), use_bfloat16=True)
    with pytest.raises(ConfigError, match="backend 'openvin': unknown; did you mean 'openvino'"):
        backend_of("openvin", [], [], FLOAT32)
    with pytest.raises(
        ConfigError, match=r"openvino: it computes on a processor only, and this machine has a GPU; .*, or"
    ):
        backend_of("openvino", [], [], gpu)
    monkeypatch.setattr(choice, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match=r'not installed; install it with `pip install "\.\[openvino\]"`.*, or use'):
        backend_of("openvino", [], [], FLOAT32)
    assert all(isinstance(backend_of("auto", [], [], device), TorchBackend) for device in (gpu, FLOAT32))
    monkeypatch.setattr(choice, "is_installed", lambda: True)
    assert isinstance(backend_of("torch", [], [], FLOAT32), TorchBackend)
    assert isinstance(backend_of("auto", [], [], FLOAT32), FastestBackend)
