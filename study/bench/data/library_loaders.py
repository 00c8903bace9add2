"""Those who are compared. Each turns the scene into endless batches: normalised float32 image, integer label.

Run as a program, this module is one contender in a process of its own (see `measure`), so that start-up, imports
included, and memory are its own. What a contender needs is imported when it is made.
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

Feed = Iterator[tuple[Any, Any]]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Job:
    """What a contender is asked to do."""

    contender: str
    scene: str
    crop: Shape
    batch_size: int
    batches: int
    """0: only import what the contender imports, and do nothing."""
    warm_up: int = 0
    """Of `batches`, those before the steady state."""
    workers: int = 0
    window: int = 0
    """Stream with a window of so many patients; 0 keeps all in memory."""
    visit: int = 16
    """Crops after which a patient leaves that window."""
    started: float = 0.0
    """`time.monotonic` when the process was asked for."""


def renalnet_feed(job: Job) -> Feed:
    """Our loader on the processor."""
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

    pa.scalar("")  # arrow imports pandas, where it is installed, with the first value it converts
    if not job.batches:
        return
    store = open_store(Path(job.scene) / STORE)
    config = LoaderConfig(workers=job.workers, window=job.window or len(store.index), visit=job.visit)
    if job.window:
        source = StoreSource(store, tuple(store.cases("train")))
        shapes, counts = store.index.shapes("train"), store.index.counts("train")
        patients = DecodedCases(source, shapes, counts, num_threads=config.decoders, keep_all=False)
    else:
        patients = load_cohort(store, config).train
    scale = store.normalisation
    optim, patch = OptimConfig(batch_size=job.batch_size), PatchConfig(shape=job.crop)
    loader = BatchLoader(patients, TrainConfig(optim=optim, patch=patch, loader=config), fill_hu=scale.hu_min)
    device = Device(torch.device("cpu"), use_bfloat16=False)
    tensors = TensorMaker(scale, device, Augmenter(AugmentConfig(), scale, seed=0))
    yield from map(tensors, loader.batches(0, job.batches))


def monai_feed(job: Job, *, cached_indices: bool = False) -> Feed:
    """CacheDataset with RandCropByPosNegLabeld and flips.

    With `cached_indices` the places of foreground and background are found once, as its documentation advises.
    """
    data, transforms = import_module("monai.data"), import_module("monai.transforms")
    import numpy as np
    import torch

    if not job.batches:
        return
    files, scale = read_arrays(Path(job.scene))
    keys = ["image", "label"]
    crop = {"spatial_size": job.crop, "pos": 0.85, "neg": 0.15, "num_samples": 1, "allow_smaller": True}
    if cached_indices:
        crop |= {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"}
    steps = [
        transforms.Lambdad(keys, lambda path: torch.from_numpy(np.load(path))[None]),
        transforms.ScaleIntensityRanged("image", scale.hu_min, scale.hu_max, -scale.mean, 1 - scale.mean, clip=True),
        *([transforms.FgBgToIndicesd("label")] if cached_indices else []),
        transforms.RandCropByPosNegLabeld(keys, "label", **crop),
        *(transforms.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
        transforms.SelectItemsd(keys),
    ]
    records = [dict(zip(keys, pair, strict=True)) for pair in files]
    cached = data.CacheDataset(records, transforms.Compose(steps), num_workers=2, progress=False)
    batches = data.DataLoader(cached, batch_size=job.batch_size, shuffle=True, num_workers=job.workers, drop_last=True)
    while True:
        for batch in batches:
            yield batch["image"], batch["label"]


def torchio_feed(job: Job) -> Feed:
    """Queue over subjects in memory, with a LabelSampler and flips."""
    torchio = import_module("torchio")
    import numpy as np
    import torch

    if not job.batches:
        return
    files, scale = read_arrays(Path(job.scene))
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


CONTENDERS: Final[dict[str, Callable[[Job], Feed]]] = {
    "renalnet": renalnet_feed,
    "monai": monai_feed,
    "monai, indices cached": lambda job: monai_feed(job, cached_indices=True),
    "torchio": torchio_feed,
}


def run(job: Job, feed: Feed) -> dict[str, float]:
    """Take the batches; seconds from the start to the first and the last, and the steady rate behind the warm-up."""
    marks = [job.started]
    for image, label in islice(feed, max(job.batches, 1)):  # a feed of nothing has imported when it is asked
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
    assert tuple(image.shape) == shape and image.is_floating_point(), "an image is not what was asked for"
    assert label.numel() == image.numel() and not label.is_floating_point(), "a label is not what was asked for"


def main() -> None:
    """Do the job given as JSON, write what was measured as a line of JSON, and end when the input ends."""
    values = json.loads(sys.argv[1])
    job = Job(**{**values, "crop": tuple(values["crop"])})
    feed = CONTENDERS[job.contender](job)
    measured = run(job, feed)
    sys.stdout.write(json.dumps(measured) + "\n")
    sys.stdout.flush()
    sys.stdin.read()  # memory is looked at meanwhile


if __name__ == "__main__":
    main()
