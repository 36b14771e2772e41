"""What the first stages of a network see: features that are local enough to compare parts of cells.

The feature of the last stage sees a large part of the picture from every position; what lies behind
the first two stages of a convolutional network sees little more than the position itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cellkin.core.arrays import Bytes, Singles
from cellkin.learning.encoder import Encoder

STAGES = (0, 1)  # of the backbone, as timm counts its feature maps
DEPTH = 3  # of a transformer, the block after the first third


def local_maps(encoder: Encoder, images: Bytes) -> tuple[Singles, ...]:
    """Feature maps (N, D, h, w) of early stages on one grid, the coarsest of theirs; none where the
    backbone does not tell its stages. No image's maps depend on the others.

    Args:
        images: (N, S, S, 3) uint8, prepared.
    """
    body: Any = encoder.network.body
    if not hasattr(body, "forward_intermediates"):
        return ()
    stages = [len(body.blocks) // DEPTH] if encoder.pooling == "token" else list(STAGES)
    seen = [_staged(encoder, image[None], stages) for image in images]
    return tuple(np.concatenate(maps) for maps in zip(*seen, strict=True))


def _staged(encoder: Encoder, image: Bytes, stages: list[int]) -> list[Singles]:
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    body: Any = encoder.network.body
    x = torch.from_numpy(encoder.preprocessor.normalize(image)).to(encoder.device)
    how = {"indices": stages, "stop_early": True, "intermediates_only": True}
    with torch.inference_mode():
        maps = [one.float() for one in body.forward_intermediates(x, **how)]
        grid = maps[-1].shape[2:]
        return [adaptive_avg_pool2d(one, grid).cpu().numpy() for one in maps]
