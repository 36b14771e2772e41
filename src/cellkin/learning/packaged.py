"""The haematology encoders that cellkin ships: weights in half precision, and what they have seen.

Encoder folders as any other, but that the weights are rounded to half precision and that they carry
hashes of the pixels of every image that they learned from, as they are decoded: however a data set
is prepared, these cells are known again and never tested on.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from cellkin.core.artifacts import new_folder
from cellkin.core.errors import WeightsError, did_you_mean
from cellkin.learning.encoder import Encoder

HAEMATOLOGY = "haematology"
FOLDERS = {"tf_efficientnet_lite0": HAEMATOLOGY}
"""The folders in the package, by backbone."""
PACKAGED = Path(str(resources.files("cellkin") / "weights"))


def packaged_folder(backbone: str) -> Path:
    """The folder of the packaged haematology encoder of a backbone.

    Raises:
        WeightsError: cellkin ships none for this backbone.
    """
    if backbone not in FOLDERS:
        raise WeightsError(
            f"there is no haematology encoder for {backbone!r}",
            where="--init haematology",
            mend=did_you_mean(backbone, FOLDERS) or f"use --backbone {' or '.join(FOLDERS)}",
        )
    return PACKAGED / FOLDERS[backbone]


def write_packaged(encoder: Encoder, seen: Sequence[str], out: Path) -> Path:
    """Write an encoder in half precision, with the pixels that it has seen.

    Args:
        seen: first 16 hexadecimal digits of `pixels_sha256` of each image that it learned from.

    Returns:
        the folder.
    """
    import torch

    with torch.no_grad():
        for tensor in encoder.network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    encoder.seen_pixels = tuple(sorted(set(seen)))
    with new_folder(out, overwrite=True) as building:
        encoder.save(building, half=True)
    return out
