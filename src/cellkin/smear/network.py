"""The finder's network: where the middle of each cell is, of which kind, and how large.

A centre-point network (Zhou, Wang and Kraehenbuehl 2019, Objects as Points): the first stages of a
timm body, their maps added up from coarse to fine, and two heads at a quarter of the picture's
resolution: one heat map for each kind, and the size and offset of the cell at each place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellkin.core.arrays import Bytes, Singles
from cellkin.core.artifacts import read_arrays, write_arrays
from cellkin.core.errors import WeightsError
from cellkin.core.manifests import read_manifest
from cellkin.learning.weights import PACKAGED_BACKBONE, initialize
from cellkin.smear.seeing import CHANNELS

MANIFEST, NETWORK, SCHEMA = "finder.json", "finder.safetensors", 1
"""Files in the folder of a fitted finder, and the version of its manifest."""

STAGES = (1, 2, 4)  # of the body: strides 4, 8 and 16
WIDTH = 64  # channels of the maps that are added up
RARE = -4.0  # log odds of a cell at any one place, before anything is learned


class FinderNetwork(nn.Module):
    """Heat maps and sizes of pictures.

    Args:
        packaged: start the body from the packaged ImageNet weights; else from random ones.
    """

    def __init__(self, *, packaged: bool = False) -> None:
        super().__init__()
        init = "packaged" if packaged else "scratch"
        body: Any = initialize(PACKAGED_BACKBONE, 1, init, size=224, seed=0)[0].body
        self.stem = nn.Sequential(body.conv_stem, body.bn1)
        self.blocks = nn.ModuleList(body.blocks[: STAGES[-1] + 1])
        self.across = nn.ModuleList(
            nn.Conv2d(body.blocks[s][-1].conv_pwl.out_channels, WIDTH, 1) for s in STAGES
        )
        self.mix = nn.Sequential(_separable(WIDTH), _separable(WIDTH))
        last = nn.Conv2d(WIDTH, len(CHANNELS), 1)
        self.heat = nn.Sequential(_separable(WIDTH), last)
        self.shape = nn.Sequential(_separable(WIDTH), nn.Conv2d(WIDTH, 4, 1))
        nn.init.constant_(last.bias, RARE)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Heat maps as log odds (N, kinds, h, w), and (N, 4, h, w): offset of the middle in x and
        y, in places; log of width and height, in places.

        `pictures`: (N, 3, H, W) uint8 or float RGB in [0, 255]; H and W multiples of 16.
        """
        x = (pictures.float() - 127) / 128
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in STAGES:
                maps.append(x)
        total = self.across[-1](maps[-1])
        for conv, finer in zip(self.across[-2::-1], maps[-2::-1], strict=True):
            total = conv(finer) + F.interpolate(total, scale_factor=2.0, mode="nearest")
        mixed = self.mix(F.relu(total))
        return self.heat(mixed).float(), self.shape(mixed).float()

    def seen(self, pictures: Bytes) -> tuple[Singles, Singles]:
        """See `cellkin.smear.seeing.Finder`."""
        x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            heat, shapes = self(x)
        return heat.sigmoid().numpy(), shapes.numpy()

    def save(self, path: Path) -> None:
        """Write the weights as safetensors in half precision."""
        state = self.state_dict()
        kept = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
        write_arrays(
            path, {k: v.detach().cpu().numpy().astype(np.float16) for k, v in kept.items()}
        )

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the weights."""
        total = hashlib.sha256()
        for value in self.state_dict().values():
            total.update(value.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    @classmethod
    def of(cls, source: FinderNetwork | Path | str) -> FinderNetwork:
        """A network, or that of a fitted finder's folder.

        Raises:
            ArtifactError: no finder's folder, or a damaged one. WeightsError: another network.
        """
        if isinstance(source, FinderNetwork):
            return source
        folder = Path(source).expanduser()
        read_manifest(folder, MANIFEST, kind="finder", schema=SCHEMA, needs=(NETWORK,))
        return cls.open(folder / NETWORK)

    @classmethod
    def open(cls, path: Path) -> FinderNetwork:
        """The network of a weights file, in evaluation mode.

        Raises:
            ArtifactError: the file is missing or damaged.
            WeightsError: it holds another network.
        """
        network = cls()
        arrays = read_arrays(path)
        state = {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items()}
        own = network.state_dict()
        wanted = {k: v.shape for k, v in own.items() if "num_batches_tracked" not in k}
        if {k: v.shape for k, v in state.items()} != wanted:
            raise WeightsError(
                "these are no weights of this finder",
                where=path,
                mend="give a file that the finder's training wrote",
            )
        network.load_state_dict(state, strict=False)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval()
        return network


def _separable(width: int) -> nn.Sequential:
    """A depthwise 3 x 3 and a pointwise convolution."""
    return nn.Sequential(
        nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
