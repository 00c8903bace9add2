"""The loaders that the benchmark compares: that of renalnet, and those of other libraries, on the same ROIs.

Each yields endless batches of a normalised float32 image and an integer label. Run as a program, this module measures
one loader in its own process (see `loader_processes.measure`), so that start-up, imports and memory are those of that
loader alone. For the same reason each loader imports its library only when it is made.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

from study.bench.measuring.processes import peak_mb
from study.bench.measuring.synthetic_rois import STORE, read_arrays

Batches = Iterator[tuple[Any, Any]]
"""Batches of (image, label) of any tensor type."""
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Job:
    """One measurement of a loader."""

    loader: str
    """Name in `LOADERS`."""
    folder: str
    """Folder of the ROIs that `write_rois` wrote."""
    crop: Shape
    """Voxels (z, y, x) of a crop."""
    batch_size: int
    batches: int
    """Number of batches; with 0 the loader only imports its library."""
    warm_up: int = 0
    """Number of the first batches that are not part of the steady state."""
    workers: int = 0
    """Processes or threads that assemble batches; 0 for none beside the caller."""
    window: int = 0
    """Number of cases in the window of a stream; 0 keeps all cases in memory."""
    visit: int = 16
    """Number of crops after which a case leaves the window."""
    started: float = 0.0
    """Value of `time.monotonic` when the process was started."""


def renalnet_batches(job: Job) -> Batches:
    """Yield the batches of renalnet's loader on the CPU."""
    import pyarrow as pa
    import torch

    from renalnet.config import AugmentConfig, LoaderConfig, OptimConfig, PatchConfig, TrainConfig
    from renalnet.data.batches.augmentation import Augmenter
    from renalnet.data.batches.cohort import load_cohort
    from renalnet.data.batches.decoded_cases import DecodedCases, StoreSource
    from renalnet.data.batches.loader import BatchLoader
    from renalnet.data.batches.tensors import TensorMaker
    from renalnet.data.store.reader import open_store
    from renalnet.runtime.device import Device

    # Arrow imports pandas, where it is installed, with the first value that it converts.
    pa.scalar("")
    if not job.batches:
        return
    store = open_store(Path(job.folder) / STORE)
    config = LoaderConfig(workers=job.workers, window=job.window or len(store.index), visit=job.visit)
    if job.window:
        source = StoreSource(store, tuple(store.cases("train")))
        shapes = store.index.shapes("train")
        counts = store.index.counts("train")
        cases = DecodedCases(source, shapes, counts, num_threads=config.decoders, keep_all=False)
    else:
        cases = load_cohort(store, config).train
    scale = store.normalisation
    optim = OptimConfig(batch_size=job.batch_size)
    patch = PatchConfig(shape=job.crop)
    loader = BatchLoader(cases, TrainConfig(optim=optim, patch=patch, loader=config), fill_hu=scale.hu_min)
    device = Device(torch.device("cpu"), use_bfloat16=False)
    tensors = TensorMaker(scale, device, Augmenter(AugmentConfig(), scale, seed=0))
    yield from map(tensors, loader.batches(0, job.batches))


def monai_batches(job: Job, *, cached_indices: bool = False) -> Batches:
    """Yield the batches of MONAI's CacheDataset with RandCropByPosNegLabeld and flips.

    With `cached_indices`, the indices of foreground and background are computed once, as MONAI's documentation advises.
    """
    data = import_module("monai.data")
    transforms = import_module("monai.transforms")
    import numpy as np
    import torch

    if not job.batches:
        return
    files, scale = read_arrays(Path(job.folder))
    keys = ["image", "label"]
    # The shares of `PatchConfig`: 0.5 of the crops at the tumor and 0.35 at the kidney.
    crop = {"spatial_size": job.crop, "pos": 0.85, "neg": 0.15, "num_samples": 1, "allow_smaller": True}
    if cached_indices:
        crop |= {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"}
    steps = [
        transforms.Lambdad(keys, lambda path: torch.from_numpy(np.load(path))[None]),
        transforms.ScaleIntensityRanged("image", scale.hu_min, scale.hu_max, -scale.mean, 1 - scale.mean, clip=True),
        *([transforms.FgBgToIndicesd("label")] if cached_indices else []),
        transforms.RandCropByPosNegLabeld(keys, "label", **crop),
        *(transforms.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
        # Cached indices differ in length from case to case and cannot be joined to a batch.
        transforms.SelectItemsd(keys),
    ]
    records = [dict(zip(keys, pair, strict=True)) for pair in files]
    cached = data.CacheDataset(records, transforms.Compose(steps), num_workers=2, progress=False)
    # Without `drop_last` the last batch of a pass could be smaller, which `_check` would refuse.
    batches = data.DataLoader(cached, batch_size=job.batch_size, shuffle=True, num_workers=job.workers, drop_last=True)
    while True:
        for batch in batches:
            yield batch["image"], batch["label"]


def torchio_batches(job: Job) -> Batches:
    """Yield the batches of TorchIO's Queue over subjects in memory, with a LabelSampler and flips."""
    torchio = import_module("torchio")
    import numpy as np
    import torch

    if not job.batches:
        return
    files, scale = read_arrays(Path(job.folder))
    subjects = []
    for image, label in files:
        pixels = torch.from_numpy(scale.apply(np.load(image)))[None]
        classes = torch.from_numpy(np.load(label))[None]
        subjects.append(
            torchio.Subject(image=torchio.ScalarImage(tensor=pixels), label=torchio.LabelMap(tensor=classes))
        )
    flips = torchio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5)
    sampler = torchio.LabelSampler(job.crop, "label", label_probabilities={0: 0.15, 1: 0.35, 2: 0.5})
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects, transform=flips),
        max_length=32,
        samples_per_volume=8,
        sampler=sampler,
        num_workers=job.workers,
    )
    batches = torchio.SubjectsLoader(queue, batch_size=job.batch_size)
    while True:
        for batch in batches:
            yield batch["image"]["data"], batch["label"]["data"]


LOADERS: Final[dict[str, Callable[[Job], Batches]]] = {
    "renalnet": renalnet_batches,
    "monai": monai_batches,
    "monai, indices cached": lambda job: monai_batches(job, cached_indices=True),
    "torchio": torchio_batches,
}
"""The loaders by the names that reports have."""


def run(job: Job, batches: Batches) -> dict[str, float]:
    """Consume the batches of a job.

    Returns:
        Seconds from the start to the first and to the last batch, crops per second after the warm-up, and peak memory.
    """
    marks = [job.started]
    # A loader is a generator, so its imports run with the first request, also where it has no batch to give.
    for image, label in islice(batches, max(job.batches, 1)):
        _check(image, label, job)
        marks.append(time.monotonic())
    steady = len(marks) - 1 - job.warm_up
    rate = steady * job.batch_size / (marks[-1] - marks[job.warm_up]) if job.batches else 0.0
    return {
        "first_s": marks[min(1, job.batches)] - job.started,
        "total_s": marks[-1] - job.started,
        "patches_per_s": rate,
        "peak_mb": peak_mb(),
    }


def _check(image: Any, label: Any, job: Job) -> None:
    shape = (job.batch_size, 1, *job.crop)
    assert tuple(image.shape) == shape and image.is_floating_point(), "an image has another shape or type"
    assert label.numel() == image.numel() and not label.is_floating_point(), "a label has another size or type"


def main() -> None:
    """Run the job given as JSON, write the measurements as a line of JSON, and end when the standard input ends."""
    values = json.loads(sys.argv[1])
    job = Job(**{**values, "crop": tuple(values["crop"])})
    measured = run(job, LOADERS[job.loader](job))
    sys.stdout.write(json.dumps(measured) + "\n")
    sys.stdout.flush()
    sys.stdin.read()  # the parent process reads this one's memory meanwhile


if __name__ == "__main__":
    main()
