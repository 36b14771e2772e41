"""Recolouring within what haematologists accept as the same cell: off unless a recipe asks for it.

Staining differs between laboratories and cameras differ in white balance, but the meaning of a cell
hangs on its colours: basophilia of the cytoplasm, the granules, the tone of the chromatin. So the
limits here are narrow: at strength 1 a colour is moved about as far as two slides of one laboratory
differ, and a pink granule never turns blue. They are a choice of this project, beyond the paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BRIGHTNESS = 0.08  # every value times 1 +- this
CONTRAST = 0.08  # every difference from the image's mean times 1 +- this
HUE = math.radians(6.0)  # turn of the chroma plane, to either side
STAIN = 0.12  # amount of each stain times 1 +- this, in optical density

# Red, green and blue density of haematoxylin, eosin and a third stain (Ruifrok and Johnston 2001);
# for Romanowsky smears the first two stand for the azures and eosin, only as axes to move along.
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def recolour(
    images: Tensor,
    colour: float,
    stain: float,
    generator: torch.Generator,
    *,
    among: tuple[int, slice] | None = None,
) -> Tensor:
    """Randomly recoloured copies of a batch; the same recolouring for all pixels of an image.

    Args:
        images: (N, 3, S, S) uint8 RGB.
        colour: strength of brightness, contrast and hue, 0 (off) to 1 (`BRIGHTNESS`, `CONTRAST`,
            `HUE`). stain: strength of the change of each stain, 0 (off) to 1 (`STAIN`).
        generator: draws them uniformly, before any image is looked at; nothing is drawn where a
            strength is 0.
        among: size of the whole batch and which part of it these images are, where several
            processes share a batch: all draw the same numbers, each takes its own.

    Returns:
        (N, 3, S, S) uint8.
    """
    if colour == 0 and stain == 0:
        return images
    n, part = among or (len(images), slice(None))
    values = images.float()
    if stain > 0:
        values = _restained(values, _draw(n, 3, stain * STAIN, generator)[part])
    if colour > 0:
        values = _relit(values, _draw(n, 3, colour, generator)[part])
    return values.round_().clamp_(0, 255).to(torch.uint8)


def _draw(n: int, of: int, reach: float, generator: torch.Generator) -> Tensor:
    """(n, of) numbers, uniform in [-reach, reach]."""
    return (2 * torch.rand(n, of, generator=generator) - 1) * reach


def _restained(values: Tensor, changes: Tensor) -> Tensor:
    """Optical densities, unmixed into stains, each stain made stronger or weaker, mixed again."""
    density = -torch.log((values + 1.0) / 256.0)
    stains = torch.tensor(STAINS, device=values.device)
    stains = stains / stains.norm(dim=1, keepdim=True)
    mixed = torch.linalg.inv(stains) @ torch.diag_embed(1 + changes.to(values.device)) @ stains
    density = torch.einsum("nchw,ncd->ndhw", density, mixed)
    return torch.exp(-density) * 256.0 - 1.0


def _relit(values: Tensor, changes: Tensor) -> Tensor:
    """Hue turned, then contrast about the image's mean, then brightness."""
    hue, contrast, brightness = changes.to(values.device).unbind(1)
    values = torch.einsum("nchw,ndc->ndhw", values, _hue_turn(hue * HUE))
    mean = values.mean((1, 2, 3), keepdim=True)
    values = mean + (values - mean) * (1 + CONTRAST * contrast)[:, None, None, None]
    return values * (1 + BRIGHTNESS * brightness)[:, None, None, None]


def _hue_turn(angles: Tensor) -> Tensor:
    """(N, 3, 3): a turn of the chroma plane of YIQ, seen in RGB; grey stays grey."""
    cos, sin, zero, one = angles.cos(), angles.sin(), angles * 0, angles * 0 + 1
    turn = torch.stack(
        [
            torch.stack([one, zero, zero], 1),
            torch.stack([zero, cos, -sin], 1),
            torch.stack([zero, sin, cos], 1),
        ],
        1,
    )
    forth = torch.tensor(TO_YIQ, device=angles.device)
    turned: Tensor = torch.linalg.inv(forth) @ turn @ forth
    return turned
