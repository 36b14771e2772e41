"""Opening an encoder of any kind: one of torch, or one that was compiled."""

from __future__ import annotations

from pathlib import Path

from cellkin.core.artifacts import read_json
from cellkin.learning.compiled import CompiledEncoder
from cellkin.learning.encoder import Encoder


def encoder_in(folder: Path, device: str | None = None) -> Encoder:
    """The encoder in a folder; `device` as in `choose_device`, None for the processor.

    Raises:
        ArtifactError: as `Encoder.open`; the device is none that it was compiled for.
    """
    settings = folder / "settings.json"
    compiled = settings.is_file() and "engine" in read_json(settings)
    return (CompiledEncoder if compiled else Encoder).open(folder, device=device)
