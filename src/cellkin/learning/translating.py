"""Translating a network for an engine, its z-score included: prepared pictures in, maps out.

One picture at a time, see `cellkin.learning.engines`. In int8 the ranges of all layers are measured
on pictures that are given for it, training cells; the map that comes out is float32 all the same.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellkin.core.arrays import Bytes
from cellkin.learning.compiled import KNOWN, CompiledEncoder
from cellkin.learning.encoder import Encoder
from cellkin.learning.engines import FILES, Model, engine_module, require_engine

MEASURED = 300  # pictures that the ranges of int8 are measured on


def translate(
    encoder: Encoder, folder: Path, *, engine: str, precision: str, pictures: Bytes
) -> CompiledEncoder:
    """The encoder, translated for an engine; its files are written into a folder that exists.

    Args:
        folder: the translated network lies there, and the weights of `encoder` where it has a head.
        engine, precision: see `cellkin.learning.engines`.
        pictures: (N, S, S, 3) uint8, prepared training cells that int8 is calibrated on; up to
            `MEASURED` evenly spread ones are taken.

    Raises:
        ArtifactError: no such engine or precision, or not here.
    """
    require_engine(engine, precision)
    write = _openvino if engine == "openvino" else _onnx
    measured = _spread(pictures) if precision == "int8" else None
    write(_Prepared(encoder).eval(), folder, pictures[:1], measured)
    if encoder.classes:
        encoder._save_weights(folder, half=False)
    compiled = CompiledEncoder(
        Model(folder, engine, precision),
        encoder.preprocessor,
        encoder.classes,
        known={name: str(getattr(encoder, name)) for name in KNOWN},
        source=folder if encoder.classes else None,
        recipe=encoder.recipe,
    )
    for name in ("trained_on", "seen_pixels", "heads", "tasks", "documents"):
        setattr(compiled, name, getattr(encoder, name))
    return compiled


def _spread(pictures: Bytes) -> list[Bytes]:
    rows = np.unique(np.linspace(0, len(pictures) - 1, min(MEASURED, len(pictures))).astype(int))
    return [np.ascontiguousarray(pictures[row : row + 1]) for row in rows]


class _Prepared(nn.Module):
    """(N, S, S, 3) uint8 to the feature map."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.network = encoder.network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(encoder.preprocessor, name), dtype=torch.float32)
            self.register_buffer(name, values.view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.permute(0, 3, 1, 2).float()
        return self.network.feature_map((x - self.mean) / self.std)


@contextmanager
def _traceable() -> Iterator[None]:
    """Gradients are off, attention is written out, and tracing's warnings are not passed on."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _openvino(module: nn.Module, folder: Path, one: Bytes, measured: list[Bytes] | None) -> None:
    ov = engine_module("openvino")
    with _traceable():
        model = ov.convert_model(
            module, example_input=torch.from_numpy(one.copy()), input=list(one.shape)
        )
        if measured is not None:
            model = _quantized(model, measured)
    ov.save_model(model, folder / FILES["openvino"][0], compress_to_fp16=False)


def _quantized(model: Any, measured: list[Bytes]) -> Any:
    with redirect_stdout(io.StringIO()):  # it draws its progress there
        nncf = engine_module("nncf")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        return nncf.quantize(model, nncf.Dataset(measured), subset_size=len(measured))


def _onnx(module: nn.Module, folder: Path, one: Bytes, _: list[Bytes] | None) -> None:
    engine_module("onnx")
    path = folder / FILES["onnx"][0]
    with _traceable():
        torch.onnx.export(module, (torch.from_numpy(one.copy()),), str(path), dynamo=False)
