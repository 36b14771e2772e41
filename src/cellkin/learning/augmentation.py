"""Augmentation that does not distort the cell (section 5.2): flips, rotations; no zoom, no shift.

The only home of randomness on images; nothing outside training imports it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ROTATIONS", "augment"]

ROTATIONS = ("none", "quarter", "any")


def augment(images: Tensor, rotation: str, flips: bool, generator: torch.Generator) -> Tensor:
    """Randomly turned and mirrored copies of a batch.

    Args:
        images: (N, 3, S, S) of any dtype.
        rotation: "none", "quarter" (multiples of 90 degrees, no pixel is interpolated) or "any"
            (any angle, bilinear, edges reflected so that no black corner appears).
        flips: mirror half of the images left to right and half top to bottom.

    Returns:
        (N, 3, S, S) of the same dtype.
    """
    n = len(images)
    if flips:
        images = _where(images, torch.rand(n, generator=generator) < 0.5, -1)
        images = _where(images, torch.rand(n, generator=generator) < 0.5, -2)
    if rotation == "quarter":
        return _quarter_turns(images, torch.randint(0, 4, (n,), generator=generator))
    if rotation == "any":
        return _any_turns(images, torch.rand(n, generator=generator) * (2 * math.pi))
    return images


def _where(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(axis), images)


def _quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    turned = torch.empty_like(images)
    for k in range(4):
        chosen = (turns == k).nonzero().squeeze(1).to(images.device)
        turned[chosen] = torch.rot90(images[chosen], k, (-2, -1))
    return turned


def _any_turns(images: Tensor, angles: Tensor) -> Tensor:
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    matrix = torch.stack(
        [torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1
    ).to(images.device)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    turned = F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return turned.round_().to(images.dtype) if not images.is_floating_point() else turned
