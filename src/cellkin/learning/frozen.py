"""A space that no atlas has trained: the stages of a packaged network, as it came.

Means and standard deviations of the maps behind the fourth, fifth and sixth stage of
EfficientNet-Lite0: the last stages are about the things of ImageNet, the middle ones about textures
and shapes, which cells have as well. Positions weigh by a Gaussian around the middle of the
picture, where the cell is, and not what happens to lie beside it (docs/decisions/042).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from cellkin.imaging.preprocess import packaged_lite0
from cellkin.learning.encoder import Encoder
from cellkin.learning.networks import Network
from cellkin.learning.weights import PACKAGED_BACKBONE, initialize

FROZEN = "imagenet"
"""The first weights that an unknown kind is judged with, see `initialize`."""

STAGES = (3, 4, 5)  # of the backbone, from 0
MIDDLE = 0.15  # width of the Gaussian, in sides of the picture


class StagedNetwork(Network):
    """The packaged backbone up to its last stage of `STAGES`; its feature is what these say."""

    def __init__(self, backbone: str, classes: int, *, size: int) -> None:
        super().__init__(backbone, classes, size=size)
        stages = ", ".join(str(stage + 1) for stage in STAGES)
        self.backbone = f"{backbone}, middle of stages {stages} ({MIDDLE:g})"

    def feature_map(self, x: Tensor) -> Tensor:
        """(N, D, 1, 1): mean and standard deviation of each channel of the stages."""
        body: Any = self.body
        x = body.bn1(body.conv_stem(x))
        told = []
        for i, stage in enumerate(body.blocks[: STAGES[-1] + 1]):
            x = stage(x)
            if i in STAGES:
                weights = middle(x.shape[2], x.shape[3]).to(x.device)
                flat = x.float().flatten(2)
                mean = flat @ weights
                spread = ((flat - mean[:, :, None]) ** 2) @ weights
                told += [mean, spread.sqrt()]
        return torch.cat(told, 1)[:, :, None, None]

    def classify(self, features: Tensor) -> Tensor:
        """It knows no classes: (N, 0)."""
        return features[:, :0]


@cache
def middle(height: int, width: int) -> Tensor:
    """(height * width,) weights of the positions of a map, together 1."""
    sides = [(torch.arange(n) - (n - 1) / 2) / n for n in (height, width)]
    squares = sides[0][:, None] ** 2 + sides[1] ** 2
    weights = torch.exp(-squares / (2 * MIDDLE**2)).flatten()
    return weights / weights.sum()


@cache
def frozen_encoder(size: int, device: torch.device | None = None) -> tuple[Encoder, str]:
    """The encoder of that space, for prepared images of `size` pixels, and the name of the space.

    Raises:
        WeightsError: the packaged weights are not there.
    """
    source, score = initialize(PACKAGED_BACKBONE, 1, FROZEN, size=size, seed=0)
    network = StagedNetwork(PACKAGED_BACKBONE, 1, size=size)
    network.load_state_dict(source.state_dict())
    encoder = Encoder(network, score or packaged_lite0(size), (), device=device)
    return encoder, encoder.space
