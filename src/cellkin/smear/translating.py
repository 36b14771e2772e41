"""Translating a finder's network for OpenVINO, at whatever size of picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cellkin.learning.engines import engine_module
from cellkin.smear.network import FinderNetwork


class _Seen(nn.Module):
    """As `FinderNetwork.seen`, on tensors."""

    def __init__(self, network: FinderNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        heat, shapes = self.network(pictures.permute(0, 3, 1, 2))
        return heat.sigmoid(), shapes


def translate_finder(network: FinderNetwork, path: Path) -> Path:
    """Write `path`, an `.xml`, and the `.bin` beside it.

    Raises:
        ArtifactError: OpenVINO is not installed.
    """
    ov = engine_module("openvino")
    example = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    with torch.no_grad():
        model = ov.convert_model(
            _Seen(network).eval(), example_input=example, input=[-1, -1, -1, 3]
        )
    ov.save_model(model, path, compress_to_fp16=False)
    return path
