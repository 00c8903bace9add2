"""Cost of a trial, measured on a few training steps, one segmented case and the files that they leave.

All files are written to a temporary folder and deleted afterwards.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch

from renalnet.config import NetName, PrepareConfig, TrainConfig
from renalnet.data.batches.cohort import Cohort, load_cohort, num_bytes
from renalnet.data.cases.splits import assign_splits
from renalnet.data.images.volume import Volume, to_source, write_volume
from renalnet.data.phantom import write_cohort
from renalnet.data.prepare.preparation import prepare
from renalnet.data.prepare.request import Request
from renalnet.data.store.reader import Roi, Store, open_store
from renalnet.errors import ConfigError
from renalnet.inference.crf import refine
from renalnet.inference.pipeline import Model, segment_roi, vote_roi
from renalnet.nets.bundle import BundleConfig
from renalnet.nets.folded import folded
from renalnet.runtime import storage
from renalnet.runtime.machine import keep_memory, num_threads
from renalnet.runtime.workers import Job, Result
from renalnet.train.run import StepReport, TrainingRun
from renalnet.train.watch import SLOW_STEPS, step_seconds
from renalnet.types import SPLITS, Split
from study.config.sections import FinalConfig, StudyConfig

MAX_STEPS: Final = SLOW_STEPS + 10
"""Steps that are measured; the first `SLOW_STEPS` are not counted."""
MEASURE_S: Final = 30.0
"""Time after which no further step is started, so that a network that is slow on this device is measured quickly.
Inference that takes longer is not repeated."""
MIN_STEPS: Final = 2
"""Steps that are measured however slow they are."""
_NUM_PHANTOMS: Final = 3
"""Phantoms that are painted where no store is named: two for training, one for validation."""


@dataclass(frozen=True)
class MeasureJob:
    """A measurement for any process that can read the store."""

    config: StudyConfig
    widths: dict[NetName, int]
    """Channels at full resolution, by network."""
    store: str | None
    """Path of the store; None to paint phantoms."""
    num_threads: int
    """Threads of PyTorch."""


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a network on one slot."""

    step_s: float
    """Time of a training step, without the first ones, which are slower."""
    case_s: float
    """Time of a validation case during training."""
    final_s: float
    """Time of a case in the final stage."""
    crf_s: float
    """Time of the dense CRF of a case, which the final stage repeats with other parameters."""
    model_bytes: int
    """Size of the weights."""
    checkpoint_bytes: int
    """Size of a checkpoint."""


@dataclass(frozen=True)
class DataCost:
    """Size of the cases."""

    num_cases: dict[Split, int]
    """Number of cases by split."""
    decoded_bytes: int
    """Memory of all decoded training and validation cases, which the trials of a node share."""
    prepared_bytes: int
    """Size of a synthetic cohort and its store in the results folder; 0 where the user named a store."""
    mask_bytes: int
    """Size of the masks of one case, on the grid of its scan and on the grid of the ROI."""
    view_bytes: int
    """Size of the images of one case that the report shows, without masks."""


@dataclass(frozen=True)
class Measured:
    """Costs from which a study is forecast."""

    networks: dict[NetName, NetworkCost]
    """Cost by network."""
    data: DataCost
    """Size of the cases."""
    device: str
    """Device of the measurement, such as `cuda:0`."""


@dataclass
class _Clock:
    """Step times, and whether they suffice."""

    step_s: list[float] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def on_step(self, report: StepReport) -> None:
        self.step_s.append(report.seconds)

    def is_enough(self) -> bool:
        is_late = time.monotonic() - self._began > MEASURE_S and len(self.step_s) >= MIN_STEPS
        return is_late or len(self.step_s) >= MAX_STEPS


def measure_study(job: MeasureJob) -> Measured:
    """Train a few steps of each network and segment one validation case, from the store or of phantoms.

    Raises:
        StoreError, ConfigError: the study cannot use the store or the configuration.
    """
    # As in the process of a trial, so that a step takes as long as it will there.
    keep_memory()
    torch.set_num_threads(min(num_threads(), job.num_threads))
    with tempfile.TemporaryDirectory(prefix="renalnet-measure-") as folder:
        store = open_store(job.store) if job.store else _paint(job.config, Path(folder))
        with closing(load_cohort(store, job.config.train.loader)) as cohort:
            roi = store.read(store.cases("validation")[0])
            bench = _Bench(job.config.train, job.config.final, cohort, roi)
            costs = {name: bench.measure(name, width, f"{folder}/{name}") for name, width in job.widths.items()}
        data = _given(store, roi, folder) if job.store else _painted(job.config, store, roi, folder)
        return Measured(costs, data, bench.device)


@dataclass
class _Bench:
    train: TrainConfig
    final: FinalConfig
    cohort: Cohort
    roi: Roi
    device: str = ""

    def measure(self, network: NetName, width: int, folder: str) -> NetworkCost:
        clock = _Clock()
        run = TrainingRun(
            self._config(network, width), self.cohort, folder, should_stop=clock.is_enough, on_step=clock.on_step
        )
        for _ in run:
            pass
        if not clock.step_s:
            reason = run.records[-1].failure if run.records else "no step was done"
            raise ConfigError(
                f"{network} of width {width} cannot be measured: {reason}; train it alone with `renalnet train` and "
                f"--set net.name={network} --set net.width={width} to see why"
            )
        self.device = str(run.device)
        # Inference uses the folded form, as the final stage does; it is faster than the training form.
        net = folded(run.net, run.device.dtype)
        about = BundleConfig(train=run.config, normalisation=self.cohort.normalisation)
        model = Model((net,), about.normalisation, self.train.labels, run.device, about)
        case_s = _quickest(lambda: run.validation.score(0, net, run.device))
        final_s, crf_s = self._final_seconds(model)
        return NetworkCost(
            step_s=step_seconds(clock.step_s)[0],
            case_s=case_s,
            final_s=final_s,
            crf_s=crf_s,
            model_bytes=sum(tensor.numel() * tensor.element_size() for tensor in run.net.state_dict().values()),
            checkpoint_bytes=_largest(folder, "checkpoint-"),
        )

    def _config(self, network: NetName, width: int) -> TrainConfig:
        """Return one epoch with one validation case, and no checkpoint before its end."""
        net = self.train.net.model_copy(update={"name": network, "width": width})
        once = {"net": net, "epochs": 1, "max_validation_cases": 1, "checkpoint_every_s": 1e9}
        # The initial weights do not change the cost, and those of a bundle fit one network only.
        random = {"init": None, "init_sha256": None}
        return self.train.model_copy(update={**once, **random})

    def _final_seconds(self, model: Model) -> tuple[float, float]:
        """Return the seconds of a case in the final stage, and of its dense CRF alone."""
        roi = self.roi
        inference = self.final.inference
        began = time.monotonic()
        vote = vote_roi(model, roi.image, inference.stitch)
        vote_s = time.monotonic() - began
        crf_s = _quickest(lambda: refine(vote.probability, roi.image, roi.spacing_mm, inference.crf), times=1)
        if vote_s > MEASURE_S:
            return vote_s + crf_s, crf_s
        # One call, because the vote above was the slow first one.
        return _quickest(lambda: segment_roi(model, roi.image, roi.spacing_mm, inference), times=1), crf_s


def _quickest(work: Callable[[], object], times: int = 2) -> float:
    """Return the least seconds over some calls, or those of the first one if it takes longer than `MEASURE_S`.

    The first call may read from a disk or tune kernels.
    """
    took: list[float] = []
    while len(took) < times and sum(took) <= MEASURE_S:
        began = time.monotonic()
        work()
        took.append(time.monotonic() - began)
    return min(took)


def _largest(folder: str, prefix: str) -> int:
    return max(size or 0 for name, size in storage.list_sizes(folder).items() if name.startswith(prefix))


def _paint(config: StudyConfig, folder: Path) -> Store:
    phantom = config.phantom.model_copy(update={"num_cases": min(_NUM_PHANTOMS, config.phantom.num_cases)})
    write_cohort(folder / "cohort", phantom)
    shares = {"test_share": 0.0, "validation_share": 1 / _NUM_PHANTOMS}
    # A localiser that is trained would take longer than all measurements, and trials do not use it.
    atlases_only = {"localise": "atlas", "localiser_steps": 0}
    few = config.prepare.model_copy(update={**shares, **atlases_only})
    cases = sorted(path.name for path in (folder / "cohort").iterdir() if path.is_dir())
    # By name, because a random split of so few cases may leave a split empty.
    splits: dict[str, Split] = {case: "validation" if case == cases[-1] else "train" for case in cases}
    prepare(Request(folder / "cohort", folder / "store", few, splits=splits), _InThisProcess())
    return open_store(folder / "store")


class _InThisProcess:
    """A `renalnet.runtime.workers.JobPool` that runs jobs in the calling process."""

    def map(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        died: Callable[[Job, str], Result] | None = None,  # noqa: ARG002
    ) -> Iterator[Result]:
        """Apply the function to each job, in order."""
        return map(function, jobs)


def _given(store: Store, roi: Roi, folder: str) -> DataCost:
    decoded = sum(num_bytes(store, split) for split in ("train", "validation"))
    return DataCost({split: len(store.cases(split)) for split in SPLITS}, decoded, 0, *_file_sizes(roi, folder))


def _painted(config: StudyConfig, store: Store, roi: Roi, folder: str) -> DataCost:
    """Return the size of the whole synthetic cohort, extrapolated from its first cases."""
    num_cases = _split_sizes(config.phantom.num_cases, config.prepare)
    bytes_per_case = sum(num_bytes(store, split) for split in ("train", "validation")) / len(store.cases())
    disk_bytes_per_case = sum(_tree_bytes(Path(folder) / name) for name in ("cohort", "store")) / len(store.cases())
    return DataCost(
        num_cases,
        int(bytes_per_case * (num_cases["train"] + num_cases["validation"])),
        int(disk_bytes_per_case * sum(num_cases.values())),
        *_file_sizes(roi, folder),
    )


def _split_sizes(num_cases: int, config: PrepareConfig) -> dict[Split, int]:
    # The numbers depend on that of the cases alone.
    assigned = assign_splits([f"case_{number:05d}" for number in range(num_cases)], config=config)
    return {split: list(assigned.values()).count(split) for split in SPLITS}


def _file_sizes(roi: Roi, folder: str) -> tuple[int, int]:
    """Return the bytes of the masks and of the view of a case. The truth stands for a predicted mask."""
    mask, labels, view = (f"{folder}/files/{name}" for name in ("mask.nii.gz", "labels.npz", "view.npz"))
    write_volume(mask, to_source(Volume(roi.label, roi.grid), roi.source))
    storage.write_arrays(labels, {"labels": roi.label})
    storage.write_arrays(view, {"image": (roi.image // 8).astype(np.uint8), "truth": roi.label})
    sizes = storage.list_sizes(f"{folder}/files")
    return (sizes["mask.nii.gz"] or 0) + (sizes["labels.npz"] or 0), sizes["view.npz"] or 0


def _tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
