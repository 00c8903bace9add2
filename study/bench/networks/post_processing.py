"""Dense CRF, connectivity and measures of one ROI, compared with other tools.

The probabilities are those of a network that was trained for a minute (`study.bench.networks.inference`). The ROI was
not used for training. Both implementations take turns on one thread.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from scipy import ndimage

from renalnet.config import KIDNEY_TUMOR, ComponentsConfig, CrfConfig, NetConfig, StitchConfig
from renalnet.evaluation.table import measure
from renalnet.inference.components import keep_largest
from renalnet.inference.crf import CRF_HU_RANGE, refine
from renalnet.inference.segmentation import segment
from renalnet.inference.stitching import Stitched
from renalnet.nets import build_net
from renalnet.nets.folded import folded
from renalnet.runtime.device import pick_device
from renalnet.types import HuArray, LabelArray
from study.bench.measuring.processes import is_installed
from study.bench.measuring.size import Size
from study.bench.measuring.synthetic_rois import RoiPainter
from study.bench.measuring.table import Row
from study.bench.networks.inference import train
from study.bench.networks.inference_process import WEIGHTS, normalisation

SPACING_MM: Final = (1.0, 0.65, 0.65)
# 18-connectivity, as in the paper.
_FACES_AND_EDGES: Final = ndimage.generate_binary_structure(3, 2)


@dataclass(frozen=True)
class _Operation:
    """An operation after the vote, by this project and by another tool. The next operation takes its labels."""

    name: str
    peer: str
    ours: Callable[[LabelArray], Any]
    theirs: Callable[[LabelArray], Any]
    note: str


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the time of each operation and of all, then the agreement with a dense CRF of the whole ROI."""
    train(size, folder)
    image, truth = RoiPainter(size.roi).paint(0)
    vote = _vote(image, folder)
    # After the vote, which is not measured and may use all cores.
    torch.set_num_threads(1)
    operations = _operations(vote, image, truth)
    rounds = [
        [_timed(operations, vote.labels, is_ours=is_ours) for is_ours in (True, False)]
        for _ in range(1 + size.inference_rounds)
    ]
    # The first round warms up.
    mine_s, its_s = (np.median([taken[which][0] for taken in rounds[1:]], axis=0) for which in (0, 1))
    for operation, mine, its in zip(operations, mine_s, its_s, strict=True):
        yield Row("post", operation.name, "s", float(mine), operation.peer, float(its), "less", operation.note)
    yield Row("post", "all three", "s", float(mine_s.sum()), "all of theirs", float(its_s.sum()), "less")
    refined, whole = (results[0] for _, results in rounds[-1])
    yield from _agreement(vote, refined, whole)


def _operations(vote: Stitched, image: HuArray, truth: LabelArray) -> list[_Operation]:
    config = CrfConfig()
    return [
        _Operation(
            "field",
            "pydensecrf, whole ROI",
            lambda _: refine(vote.probability, image, SPACING_MM, config),
            lambda _: _whole_crf(vote, image, config),
            "five iterations, the parameters of `CrfConfig`",
        ),
        _Operation(
            "components",
            "scipy.ndimage.label",
            lambda labels: keep_largest(labels, SPACING_MM, ComponentsConfig(), KIDNEY_TUMOR),
            _largest_by_scipy,
            "18-connectivity, the largest",
        ),
        _Operation(
            "measures",
            "MONAI",
            lambda labels: measure(truth, labels, SPACING_MM, KIDNEY_TUMOR),
            partial(_measured_by_monai, truth),
            "ours: four classes, also pixels, surface Dice, detection; MONAI's: Dice, surface distance, HD95 of two",
        ),
    ]


def _timed(operations: Sequence[_Operation], labels: LabelArray, *, is_ours: bool) -> tuple[list[float], list[Any]]:
    """Return the times and the results of the operations, applied in order."""
    seconds = []
    results = []
    for operation in operations:
        started = time.perf_counter()
        results.append((operation.ours if is_ours else operation.theirs)(labels))
        seconds.append(time.perf_counter() - started)
        labels = results[-1]
    return seconds, results


def _agreement(vote: Stitched, refined: LabelArray, whole: LabelArray) -> Iterator[Row]:
    changed = whole != vote.labels
    note = f"the whole field changes {changed.mean():.3%} of the voxels"
    yield Row("post", "labels equal to those of the whole field", "share", float((refined == whole).mean()), note=note)
    alike = float((refined == whole)[changed].mean()) if changed.any() else None
    yield Row("post", "of the voxels that it changes, changed alike", "share", alike)


def _vote(image: HuArray, folder: Path) -> Stitched:
    device = pick_device()
    net = build_net(NetConfig(), KIDNEY_TUMOR)
    net.load_state_dict(load_file(folder / WEIGHTS))
    return segment([folded(device.place(net), device.dtype)], image, normalisation(), StitchConfig(), device)


def _whole_crf(vote: Stitched, image: HuArray, config: CrfConfig) -> LabelArray:
    """Return the labels of the library's usual dense CRF, over every voxel of the ROI."""
    crf = import_module("pydensecrf.densecrf").DenseCRF(image.size, len(vote.probability))
    # The lower limit keeps the logarithm finite.
    unary = -np.log(np.maximum(vote.probability, 1e-6)).reshape(len(vote.probability), -1)
    # pydensecrf accepts only contiguous float32.
    crf.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    axes = [np.arange(length) * spacing for length, spacing in zip(image.shape, SPACING_MM, strict=True)]
    position = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).astype(np.float32)
    intensity = image.clip(*CRF_HU_RANGE).astype(np.float32).reshape(1, -1)
    crf.addPairwiseEnergy(position / np.float32(config.smooth_mm), compat=config.smooth_weight)
    scaled = (position / np.float32(config.bilateral_mm), intensity / np.float32(config.bilateral_hu))
    crf.addPairwiseEnergy(np.concatenate(scaled), compat=config.bilateral_weight)
    labels: LabelArray = np.asarray(crf.inference(config.iterations)).argmax(0).astype(np.uint8).reshape(image.shape)
    return labels


def _largest_by_scipy(labels: LabelArray) -> LabelArray:
    components, _ = ndimage.label(labels > 0, structure=_FACES_AND_EDGES)
    sizes = np.bincount(components.ravel())
    # Component 0 is the background, which would mostly be the largest.
    sizes[0] = 0
    return np.where(components == sizes.argmax(), labels, 0).astype(np.uint8)


def _measured_by_monai(truth: LabelArray, labels: LabelArray) -> dict[str, Any]:
    """Return MONAI's measures; none if it is not installed."""
    if not is_installed("monai"):
        return {}
    metrics = import_module("monai.metrics")
    y, y_pred = (torch.from_numpy(np.stack([m == 1, m == 2])[None]).float() for m in (truth, labels))
    # Both channels are foreground; by default MONAI would leave out the first one.
    in_mm = {"include_background": True, "spacing": SPACING_MM}
    return {
        "dice": metrics.compute_dice(y_pred, y),
        "surface_distance": metrics.compute_average_surface_distance(y_pred, y, symmetric=True, **in_mm),
        "hd95": metrics.compute_hausdorff_distance(y_pred, y, percentile=95, **in_mm),
    }
