"""How much of a field one picture of an atlas shows, and what refuses whole fields."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from cellkin.atlas import Atlas
from cellkin.core.arrays import Bytes
from cellkin.core.errors import DataError
from cellkin.core.progress import Progress, silent
from cellkin.imaging.loading import Check
from cellkin.learning.compiled import CompiledEncoder
from cellkin.learning.encoder import Encoder
from cellkin.smear.compiled import compiled_finder
from cellkin.smear.single import refuse_field
from cellkin.smear.window import Window, spread, window_of

COARSE = 96
"""Pixels along a picture below which an atlas is measured when it is first asked to count, not
when it is made."""


def atlas_window(atlas: Atlas, *, progress: Progress = silent) -> Window:
    """The window of an atlas: as its recipe says, else as it was measured when it was made, else
    measured now, which takes some seconds.

    Raises:
        DataError: its pictures tell no scale.
    """
    if (known := atlas.facts.get("window")) is not None:
        return Window.from_json(known)
    (pictures,) = atlas.pictures([spread(len(atlas.cells))])
    return window_of(pictures, um=atlas.encoder.preprocessor.window, progress=progress)


def measured_facts(
    encoder: Encoder, pictures: Bytes | Sequence[Bytes], progress: Progress = silent
) -> dict[str, Any]:
    """What an atlas keeps of the window of its reference pictures (S, S, 3); nothing where they
    are coarse, or tell no scale.
    """
    if encoder.preprocessor.size < COARSE:
        return {}
    try:
        window = window_of(pictures, um=encoder.preprocessor.window, progress=progress)
    except DataError:  # said again, with its reason, by whoever wants to count with this atlas
        return {}
    return {"window": window.to_json()}


def no_field(atlas: Atlas) -> Check:
    """Refuses fields among the pictures of cells; where an atlas is compiled for OpenVINO, by the
    finder that is compiled as well.
    """
    encoder = atlas.encoder
    if isinstance(encoder, CompiledEncoder) and encoder.engine == "openvino":
        return partial(refuse_field, finder=compiled_finder())
    return refuse_field
