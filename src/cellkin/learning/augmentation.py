"""Augmentation (section 5.2): flips and rotations, which do not distort the cell; beyond the paper,
and off unless a recipe asks for it, zoom, recolouring and the look of other laboratories.

The only home of randomness on images; nothing outside training imports it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.colour import recolour
from cellkin.learning.laboratories import as_elsewhere
from cellkin.learning.recipes import Recipe


@dataclass(frozen=True)
class Turns:
    """What happens to each of N images: a mirror along the diagonal, then left to right and top to
    bottom, (3, N) bool; then, where drawn, a rotation by `angles`, (N,) in radians, and a zoom by
    `zooms`, (N,): above 1 the cell becomes smaller.
    """

    mirrors: Tensor
    angles: Tensor | None
    zooms: Tensor | None = None

    def part(self, chosen: slice) -> Turns:
        """Those of some of the images."""
        angles, zooms = (None if v is None else v[chosen] for v in (self.angles, self.zooms))
        return Turns(self.mirrors[:, chosen], angles, zooms)


def augmented(
    images: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    among: tuple[int, slice] | None = None,
) -> Tensor:
    """A batch as a recipe varies it: turned, zoomed, recoloured, as other laboratories show it.

    Args:
        images: (N, 3, S, S) uint8. among: as in `cellkin.learning.colour.recolour`.

    Returns:
        (N, 3, S, S) uint8.
    """
    n, part = among or (len(images), slice(None))
    turns = draw_turns(n, recipe.rotation, recipe.flips, generator, zoom=recipe.zoom)
    turned = turn(images, turns.part(part))
    strengths = recipe.colour_jitter, recipe.stain_jitter
    turned = recolour(turned, *strengths, generator, among=(n, part))
    return as_elsewhere(turned, recipe.laboratory_jitter, generator, among=(n, part))


def draw_turns(
    n: int, rotation: str, flips: bool, generator: torch.Generator, *, zoom: float = 0.0
) -> Turns:
    """Draw what happens to n images.

    Args:
        rotation: "none", "quarter" (multiples of 90 degrees, no pixel is interpolated) or "any"
            (any angle, bilinear, edges reflected so that no black corner appears).
        flips: mirror half of the images left to right and half top to bottom.
        zoom: of the logarithm of the zoom, to either side; 0 draws none.
    """
    turns = _turns(n, rotation, flips, generator)
    if zoom == 0:
        return turns
    zooms = torch.exp((2 * torch.rand(n, generator=generator) - 1) * zoom)
    return Turns(turns.mirrors, turns.angles, zooms)


def _turns(n: int, rotation: str, flips: bool, generator: torch.Generator) -> Turns:
    still = torch.zeros(n, dtype=torch.bool)
    across = torch.rand(n, generator=generator) < 0.5 if flips else still
    down = torch.rand(n, generator=generator) < 0.5 if flips else still
    if rotation == "any":
        angles = torch.rand(n, generator=generator) * (2 * math.pi)
        return Turns(torch.stack([still, across, down]), angles)
    if rotation == "none":
        return Turns(torch.stack([still, across, down]), None)
    quarters = torch.randint(0, 4, (n,), generator=generator)
    odd = quarters % 2 == 1
    # A quarter turn is the diagonal mirror followed by one flip; moved behind the diagonal, flips
    # across become flips down and the other way round.
    return Turns(
        torch.stack(
            [
                odd,
                torch.where(odd, down, across) ^ (quarters >= 2),
                torch.where(odd, across, down) ^ ((quarters == 1) | (quarters == 2)),
            ]
        ),
        None,
    )


def turn(images: Tensor, turns: Turns) -> Tensor:
    """Turned and mirrored copies of N images (N, 3, S, S) of any dtype and on any device."""
    mirrors = turns.mirrors.to(images.device)[:, :, None, None, None]
    images = torch.where(mirrors[0], images.mT, images)
    images = torch.where(mirrors[1], images.flip(-1), images)
    images = torch.where(mirrors[2], images.flip(-2), images)
    if turns.angles is None and turns.zooms is None:
        return images
    still = torch.zeros(len(images))
    angles = still if turns.angles is None else turns.angles
    zooms = still + 1 if turns.zooms is None else turns.zooms
    return _rotated(images, angles.to(images.device), zooms.to(images.device))


def normalized(images: Tensor, preprocessor: Preprocessor) -> Tensor:
    """The z-score of `Preprocessor.normalize` on the device of the images, up to float rounding.

    Args:
        images: (N, 3, S, S) uint8.

    Returns:
        (N, 3, S, S) float32 in channels-last memory.
    """
    std = torch.tensor(preprocessor.std, dtype=torch.float64)
    shift = torch.tensor(preprocessor.mean, dtype=torch.float64) / std
    factor, shift = (
        v.float().to(images.device, non_blocking=True).view(1, 3, 1, 1) for v in (1.0 / std, shift)
    )
    pixels = images.to(torch.float32, memory_format=torch.channels_last)
    return pixels.mul_(factor).sub_(shift)


def _rotated(images: Tensor, angles: Tensor, zooms: Tensor) -> Tensor:
    cos, sin, zero = zooms * angles.cos(), zooms * angles.sin(), torch.zeros_like(angles)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    turned = F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return turned.round_().to(images.dtype) if not images.is_floating_point() else turned
