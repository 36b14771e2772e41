"""Networks of an encoder's architecture that know nothing: what its heatmaps are tested against.

Adebayo et al., Sanity checks for saliency maps (NeurIPS 2018): a heatmap that looks the same when
the weights are random shows the image, not what the network has learned.
"""

from __future__ import annotations

from typing import Any

import torch

from cellkin.core.arrays import Bytes
from cellkin.learning.encoder import CHUNK, Encoder
from cellkin.learning.weights import initialize


def untrained(encoder: Encoder, images: Bytes, *, seed: int) -> Encoder:
    """An encoder of the same architecture and preprocessor, with weights from the seed alone.

    Batch norms get the statistics of `images`, so that a random network keeps its signal as a
    trained one does; scales of norms that the architecture sets to zero at first (the last of a
    residual block) are set to one, so that its branches take part.

    Args:
        images: (N, S, S, 3) uint8, prepared; N at least 2.
    """
    network, _ = initialize(
        encoder.backbone,
        len(encoder.classes),
        "scratch",
        size=encoder.preprocessor.size,
        seed=seed,
        norm=encoder.norm,
    )
    for norm in network.body.modules():
        if hasattr(norm, "running_mean") and not norm.weight.any():
            torch.nn.init.ones_(norm.weight)
    made = Encoder(network, encoder.preprocessor, encoder.classes, device=encoder.device)
    settle(made, images)
    return made


def settle(encoder: Encoder, images: Bytes) -> None:
    """Give the batch norms of an encoder the mean statistics of these images; no weight changes.

    Args:
        images: (N, S, S, 3) uint8, prepared; N at least 2.
    """
    norms: list[Any] = [m for m in encoder.network.body.modules() if hasattr(m, "running_mean")]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all chunks
    for start in range(0, len(images) if norms else 0, CHUNK):
        chunk = images[start : start + CHUNK]
        if len(chunk) < 2:
            break  # one picture alone has no spread where a map is 1 x 1
        x = torch.from_numpy(encoder.preprocessor.normalize(chunk)).to(encoder.device)
        encoder.network.train()
        with torch.no_grad():
            encoder.network.feature_map(x)
    encoder.network.eval()
