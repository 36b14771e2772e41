"""Teaching the finder: pictures from a painter, a focal loss on heat maps, sizes at the middles.

The loss is that of Zhou, Wang and Kraehenbuehl 2019 (Eqs. 1 to 4), where nothing is asked of places
of which nothing is known. The pictures of a step depend on the seed and the step alone, so a
stopped and resumed training ends as an undisturbed one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cellkin.core.arrays import Bools, Singles
from cellkin.core.artifacts import replacing
from cellkin.core.errors import TrainingError
from cellkin.core.progress import Progress, silent
from cellkin.smear.network import FinderNetwork
from cellkin.smear.scenes import Painter, Picture
from cellkin.smear.seeing import CHANNELS, STRIDE

SPREAD = 0.11  # standard deviation of a heat map's peak, as a share of the cell's size
IMPORTANCE = (1.0, 0.5, 0.3, 0.2, 0.3)  # of the kinds in the loss, in the order of `CHANNELS`
WARM_UP = 0.05  # share of the steps in which the learning rate rises


@dataclass(frozen=True)
class FinderTraining:
    """How the finder is taught: `steps` of `batch` pictures, the highest learning rate, its decay,
    the decay of the running mean of the weights, and steps between checkpoints.
    """

    steps: int = 3000
    batch: int = 12
    lr: float = 1.5e-3
    decay: float = 1e-4
    mean_of: float = 0.995
    seed: int = 0
    kept: int = 200


def teach(
    painter: Painter,
    options: FinderTraining,
    checkpoint: Path,
    *,
    start: FinderNetwork | None = None,
    task: str = "",
    progress: Progress = silent,
) -> FinderNetwork:
    """Train; goes on where `checkpoint` was left.

    Args:
        start: the finder to begin with; where nothing is known, it is held to what that one says,
            and its normalisation stays. Without one, training is from packaged ImageNet weights.
        task: what is trained, so that a checkpoint of something else is not gone on with.

    Returns:
        the network with the running mean of its weights, in evaluation mode.

    Raises:
        TrainingError: the checkpoint is of another task.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = FinderNetwork(packaged=True) if start is None else deepcopy(start)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), options.lr, weight_decay=options.decay)
    mean = {k: v.clone() for k, v in network.state_dict().items()}
    done = 0
    if checkpoint.is_file():
        kept: Any = torch.load(checkpoint, weights_only=True)
        _check_task(kept.get("task", ""), task, checkpoint)
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
        mean, done = kept["mean"], kept["done"]
    _to_training(network, whole=start is None)
    for step in range(done, options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * _pace(step, options.steps)
        seeds = [np.random.default_rng([options.seed, step, i]) for i in range(options.batch)]
        loss = loss_of(network, [painter.paint(rng) for rng in seeds], start)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        _keep_mean(mean, network, min(options.mean_of, (1 + step) / (10 + step)))
        if (step + 1) % options.kept == 0 or step + 1 == options.steps:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            with replacing(checkpoint) as part:
                torch.save({**state, "mean": mean, "done": step + 1, "task": task}, part)
        progress(f"teaching the finder, loss {loss.item():.3f}", step + 1, options.steps)
    network.load_state_dict(mean)
    network.eval()
    return network


def _check_task(kept: str, task: str, checkpoint: Path) -> None:
    if kept != task:
        raise TrainingError(
            "another training was left here: other fields, marks or options",
            where=checkpoint.parent,
            mend="give the same as before to go on with it, or take that folder away",
        )


def _to_training(network: FinderNetwork, *, whole: bool) -> None:
    """Into training mode; not whole: means and variances of the normalisation stay as they are."""
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and not whole:
            module.eval()


def _pace(step: int, steps: int) -> float:
    """Share of the peak learning rate: a short rise, then a half cosine."""
    rise = max(WARM_UP * steps, 1)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1))) + 0.01


def _keep_mean(mean: dict[str, Tensor], network: FinderNetwork, decay: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            mean[name].lerp_(value, 1 - decay)
        else:
            mean[name].copy_(value)


def loss_of(
    network: FinderNetwork, pictures: Sequence[Picture], start: FinderNetwork | None = None
) -> Tensor:
    """The loss of a batch; with `start`, what is not known is held to what that one says."""
    images = torch.from_numpy(np.stack([p.rgb for p in pictures])).permute(0, 3, 1, 2)
    logits, shapes = network(images)
    found = [targets_of(p) for p in pictures]
    heat, known = (torch.from_numpy(np.stack([f[k] for f in found])) for k in (0, 1))
    loss = _focal(logits, heat, known)
    if start is not None:
        with torch.no_grad():
            said = start(images)[0].sigmoid()
        loss = loss + _held_to(said, logits, known)
    at = [(n, *place) for n, f in enumerate(found) for place in f[2]]
    if at:
        n, rows, columns = (torch.tensor(v) for v in zip(*at, strict=True))
        wanted = torch.from_numpy(np.concatenate([f[3] for f in found]))
        loss = loss + F.smooth_l1_loss(shapes[n, :, rows, columns], wanted, beta=0.1)
    return loss


def targets_of(
    picture: Picture,
) -> tuple[Singles, Bools, list[tuple[int, int]], Singles]:
    """What the network should say of a picture.

    Returns:
        heat (kinds, h, w), 1 at each middle and falling around it; where it is known (kinds, h, w);
        the n middles (row, column); and offset x, y, log width, log height there, (n, 4).
    """
    side = picture.rgb.shape[0] // STRIDE
    heat = np.zeros((len(CHANNELS), side, side), np.float32)
    grid = np.arange(side)
    places, shapes = [], []
    for (left, top, right, bottom), kind in zip(picture.boxes / STRIDE, picture.kinds, strict=True):
        x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        column, row = min(int(x), side - 1), min(int(y), side - 1)
        across = np.exp(-0.5 * ((grid - column) / max(SPREAD * width, 0.6)) ** 2)
        down = np.exp(-0.5 * ((grid - row) / max(SPREAD * height, 0.6)) ** 2)
        np.maximum(heat[kind], down[:, None] * across, out=heat[kind])
        places.append((row, column))
        shapes.append((x - column, y - row, np.log(max(width, 0.5)), np.log(max(height, 0.5))))
    return heat, picture.known, places, np.array(shapes, np.float32).reshape(-1, 4)


def _focal(logits: Tensor, heat: Tensor, known: Tensor) -> Tensor:
    """The focal loss of heat maps, by kind, over the number of its cells in the batch."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    middle = (heat == 1) & known
    hits = ((1 - p) ** 2 * p.log() * middle).sum((0, 2, 3))
    misses = ((1 - heat) ** 4 * p**2 * (1 - p).log() * (known & ~middle)).sum((0, 2, 3))
    count = middle.sum((0, 2, 3)).clamp(min=4)
    return -((hits + misses) / count * torch.tensor(IMPORTANCE)).sum()


def _held_to(said: Tensor, logits: Tensor, known: Tensor) -> Tensor:
    """How far heat maps went from others where nothing is known: cross entropy, weighted by the
    squared distance (Li et al. 2020, Generalized Focal Loss, Eq. 3), over the number of pictures.
    """
    far = (logits.sigmoid() - said).square()
    cross = F.binary_cross_entropy_with_logits(logits, said, reduction="none")
    total = (far * cross * ~known).sum((0, 2, 3))
    return (total * torch.tensor(IMPORTANCE)).sum() / len(said)
