"""The same cell as another laboratory would show it: its stain, lamp, lens and camera (beyond the
paper; off unless a recipe asks for it).

What the recolouring of `cellkin.learning.colour` never does is done here on purpose: stains and
cameras of laboratories differ by far more than two slides of one. It teaches a network to look past
them. Stain and lamp vary in optical density d: d -> max(0, M d) g, M near the unit matrix, g per
channel; then the ground's gain, a blur by sampling down and up again, noise, and JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MIX = 0.25  # M = I + MIX N(0, 1), 3 x 3
GAIN = 0.35  # g = exp(GAIN N(0, 1)), per channel
LAMP = 0.15  # gain of the ground exp(LAMP N(0, 1)), per channel
NOISE = 8.0  # standard deviation of the noise, up to this, of 255
BLURRED = 0.5  # share of pictures that are sampled down 2 to 4 times and up again
CODED = 0.3  # share of pictures that are coded as JPEG of quality 40 to 95
WHITE = 246.0


@dataclass(frozen=True)
class _Elsewhere:
    """What is drawn for each of N pictures; `seeds` draw the noise of each."""

    mix: Tensor  # (N, 3, 3)
    gain: Tensor  # (N, 3)
    lamp: Tensor  # (N, 3)
    noise: Tensor  # (N,)
    smaller: Tensor  # (N,) 1 where it is not blurred
    quality: Tensor  # (N,) 0 where it is not coded
    seeds: Tensor  # (N,)

    def part(self, chosen: slice) -> _Elsewhere:
        return _Elsewhere(*(values[chosen] for values in vars(self).values()))


def as_elsewhere(
    images: Tensor,
    strength: float,
    generator: torch.Generator,
    *,
    among: tuple[int, slice] | None = None,
) -> Tensor:
    """Copies of a batch as other laboratories would show them.

    Args:
        images: (N, 3, S, S) uint8 RGB.
        strength: 0 (off) to 1 (the constants here); scales every change, and the share of pictures
            that are blurred or coded.
        generator: nothing is drawn from it where the strength is 0.
        among: as in `cellkin.learning.colour.recolour`.

    Returns:
        (N, 3, S, S) uint8 on the device of `images`.
    """
    if strength == 0:
        return images
    n, part = among or (len(images), slice(None))
    drawn = _draw(n, strength, generator).part(part)
    values = _restained(images.float(), drawn)
    for row, factor in enumerate(drawn.smaller.tolist()):
        if factor > 1:
            values[row : row + 1] = _softened(values[row : row + 1], factor)
    values = values + _noise(drawn, images.shape[2:]).to(images.device)
    pictures = values.round_().clamp_(0, 255).to(torch.uint8)
    for row, quality in enumerate(drawn.quality.tolist()):
        if quality:
            pictures[row] = _coded(pictures[row], quality)
    return pictures


def _draw(n: int, strength: float, generator: torch.Generator) -> _Elsewhere:
    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator)

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator)

    blurred, coded = uniform() < BLURRED * strength, uniform() < CODED * strength
    factors = torch.randint(2, 5, (n,), generator=generator)
    qualities = torch.randint(40, 96, (n,), generator=generator)
    return _Elsewhere(
        mix=torch.eye(3) + strength * MIX * normal(3, 3),
        gain=torch.exp(strength * GAIN * normal(3)),
        lamp=torch.exp(strength * LAMP * normal(3)),
        noise=strength * NOISE * uniform(),
        smaller=torch.where(blurred, factors, 1),
        quality=torch.where(coded, qualities, 0),
        seeds=torch.randint(2**31, (n,), generator=generator),
    )


def _restained(values: Tensor, drawn: _Elsewhere) -> Tensor:
    density = (-torch.log((values + 1.0) / WHITE)).clamp_(min=0)
    mix = (drawn.mix * drawn.gain[:, :, None]).to(values.device)
    density = torch.einsum("ndc,nchw->ndhw", mix, density).clamp_(min=0)
    return WHITE * torch.exp(-density) * drawn.lamp.to(values.device)[:, :, None, None]


def _softened(picture: Tensor, factor: int) -> Tensor:
    side = picture.shape[-1]
    small = F.interpolate(picture, size=(max(side // factor, 4),) * 2, mode="area")
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)


def _noise(drawn: _Elsewhere, shape: torch.Size) -> Tensor:
    own = [torch.Generator().manual_seed(seed) for seed in drawn.seeds.tolist()]
    fields = torch.stack([torch.randn(3, *shape, generator=one) for one in own])
    return fields * drawn.noise[:, None, None, None]


def _coded(picture: Tensor, quality: int) -> Tensor:
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()[..., ::-1])
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1].copy()
    return torch.from_numpy(decoded).permute(2, 0, 1).to(picture.device)
