"""The packaged finder, translated for OpenVINO: what it sees, without torch."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from threading import local
from typing import Any

from cellkin.core.arrays import Bytes, Singles
from cellkin.learning.engines import engine_module

TRANSLATED = Path(__file__).parent.parent / "weights" / "finder.xml"
"""Beside it lies its `.bin`; both are made by `cellkin.smear.translating`."""


class CompiledFinder:
    """A translated finder; may be asked by several threads at once.

    Raises:
        ArtifactError: OpenVINO is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._own = path, local()

    def seen(self, pictures: Bytes) -> tuple[Singles, Singles]:
        """See `cellkin.smear.seeing.Finder`."""
        if not hasattr(self._own, "request"):
            self._own.request = self._network.create_infer_request()
        heat, shapes = self._own.request.infer([pictures]).values()
        return heat.copy(), shapes.copy()

    @cached_property
    def _network(self) -> Any:
        core = engine_module("openvino").Core()
        how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        return core.compile_model(self._path, "CPU", how)


@cache
def compiled_finder() -> CompiledFinder:
    """The finder that comes with the package."""
    return CompiledFinder(TRANSLATED)
