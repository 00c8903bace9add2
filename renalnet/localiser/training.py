"""Training of the localiser's network on the coarse scans of training patients."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import torch

from renalnet.localiser.coarse_scan import CoarseScan
from renalnet.localiser.examples import draw_batch
from renalnet.localiser.network import CoarseNetwork
from renalnet.nets.blocks import SegmentationNet
from renalnet.train.losses.cross_entropy import weighted_cross_entropy
from renalnet.train.losses.dice_ce import soft_dice_loss

BATCH_SIZE: Final = 2
WEIGHT_DECAY: Final = 1e-4
FIRST_RATE: Final = 2e-3
"""Learning rate of a network with random weights."""
FURTHER_RATE: Final = 5e-4
"""Learning rate of a network that was trained before."""
CLASS_WEIGHTS: Final = (0.3, 1.0, 1.0)
"""Weights of background, left and right kidney in the cross-entropy."""
_WARM_UP_SHARE: Final = 0.05

OnStep = Callable[[int, float], None]
"""Called with the number of finished steps and the loss of the last one."""


def train_network(
    start: CoarseNetwork,
    scans: Sequence[CoarseScan],
    *,
    num_steps: int,
    base_rate: float,
    seed: int,
    threads: int | None = None,
    on_step: OnStep | None = None,
) -> CoarseNetwork:
    """Return a network trained further on some scans; `start` keeps its weights.

    Args:
        start: network to begin from.
        scans: scans to draw examples from; at least one.
        num_steps: optimiser steps of `BATCH_SIZE` examples.
        base_rate: highest learning rate of AdamW. It rises at the beginning and falls to zero as half a cosine.
        seed: seed of the examples.
        threads: threads of the processor; None for those of the process.
        on_step: called after each step.
    """
    net = copy.deepcopy(start.net).train()
    rng = np.random.default_rng([seed, 21])
    optimiser = torch.optim.AdamW(net.parameters(), lr=base_rate, weight_decay=WEIGHT_DECAY)
    with _num_threads(threads):
        for step in range(num_steps):
            for group in optimiser.param_groups:
                group["lr"] = base_rate * _rate_factor(step, num_steps)
            loss = _step(net, optimiser, *draw_batch(scans, BATCH_SIZE, rng))
            if on_step:
                on_step(step + 1, loss)
    return CoarseNetwork(net.eval(), {"num_scans": len(scans), "num_steps": num_steps, "seed": seed})


@contextlib.contextmanager
def _num_threads(threads: int | None) -> Iterator[None]:
    """Set PyTorch's threads of the process inside the block; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rate_factor(step: int, num_steps: int) -> float:
    warm_up = max(1, round(_WARM_UP_SHARE * num_steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return float(0.5 * (1 + np.cos(np.pi * (step - warm_up) / max(num_steps - warm_up, 1))))


def _step(net: SegmentationNet, optimiser: torch.optim.Optimizer, image: torch.Tensor, labels: torch.Tensor) -> float:
    optimiser.zero_grad(set_to_none=True)
    logits = net(image)
    loss = weighted_cross_entropy(logits, labels, CLASS_WEIGHTS) + soft_dice_loss(logits, labels).mean()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())
