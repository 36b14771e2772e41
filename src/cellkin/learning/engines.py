"""Engines that run a translated network on a CPU, without torch.

A network is translated for one prepared picture at a time (`cellkin.learning.translating`): what
it says of a picture cannot depend on those beside it (docs/decisions/004). Pictures are run beside
each other in streams of one thread each, so it does not depend on the number of cores either.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cellkin.core.arrays import Bytes, Singles
from cellkin.core.errors import ArtifactError, did_you_mean
from cellkin.learning.threads import thread_count

FILES = {"openvino": ("model.xml", "model.bin"), "onnx": ("model.onnx",)}
"""Engines by name, and the files of a translated network of each."""

PRECISIONS = {"openvino": ("fp32", "bf16", "int8"), "onnx": ("fp32",)}
"""What each can compute in: bf16 only where the processor has it."""

MISSING = "pip install 'cellkin[fast]'"


def engine_module(name: str) -> Any:
    """A module that an engine needs; none of them reports to its makers that it is used.

    Raises:
        ArtifactError: it is not installed.
    """
    # OpenVINO and NNCF send usage data where this package can be imported; both do without
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ArtifactError(
            f"compiled networks need {name}, which is not installed",
            where=str(error),
            mend=MISSING,
        ) from None


def require_engine(engine: str, precision: str) -> None:
    """Refuse what no engine here can do.

    Raises:
        ArtifactError: an unknown engine or precision, one that is not installed, or bf16 on a
            processor without it.
    """
    if engine not in FILES:
        raise ArtifactError(
            f"there is no engine {engine!r}",
            where="--engine",
            mend=did_you_mean(engine, FILES) or f"use {' or '.join(FILES)}",
        )
    if precision not in PRECISIONS[engine]:
        raise ArtifactError(
            f"{engine} cannot compute in {precision!r}",
            where="--precision",
            mend=f"use {' or '.join(PRECISIONS[engine])}",
        )
    engine_module("openvino" if engine == "openvino" else "onnxruntime")
    if precision == "bf16" and not has_bf16():
        raise ArtifactError(
            "this processor has no bfloat16",
            where=f"{engine} bf16",
            mend="compile the atlas again with --precision fp32 or int8",
        )


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16, as OpenVINO tells it."""
    core = engine_module("openvino").Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@dataclass(frozen=True)
class Model:
    """A translated network: files in a folder.

    Attributes:
        folder: where they lie. engine: one of `FILES`. precision: one of `PRECISIONS` of it.
    """

    folder: Path
    engine: str
    precision: str

    @cached_property
    def sha256(self) -> str:
        """Hash of its files.

        Raises:
            ArtifactError: one is missing.
        """
        total = hashlib.sha256()
        for name in FILES[self.engine]:
            total.update(self._read(name))
        return total.hexdigest()

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise ArtifactError(
                "a file of the compiled network is missing",
                where=self.folder / name,
                mend="restore the folder from a copy, or compile the atlas again",
            ) from error

    def save(self, folder: Path) -> None:
        """Write its files into a folder that exists."""
        for name in FILES[self.engine]:
            (folder / name).write_bytes(self._read(name))

    def maps(self, images: Bytes) -> Singles:
        """What the network makes of prepared images.

        Args:
            images: (N, S, S, 3) uint8.

        Returns:
            (N, ...) float32: for each image what `Network.feature_map` gives, the same bits
            whatever the other images are, and however many cores there are.

        Raises:
            ArtifactError: the engine is not installed, or the processor has no bfloat16.
        """
        return self._run(images)

    @cached_property
    def _run(self) -> Callable[[Bytes], Singles]:
        require_engine(self.engine, self.precision)
        return _openvino(self) if self.engine == "openvino" else _onnx(self)


def _openvino(model: Model) -> Callable[[Bytes], Singles]:
    ov = engine_module("openvino")
    streams = thread_count()
    network = ov.Core().compile_model(
        model.folder / FILES["openvino"][0],
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if model.precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": streams,
            "NUM_STREAMS": streams,
        },
    )
    shape = tuple(network.output(0).shape)[1:]
    queue, one_at_a_time = ov.AsyncInferQueue(network, streams), Lock()

    def run(images: Bytes) -> Singles:
        found = np.empty((len(images), *shape), np.float32)

        def keep(request: Any, row: int) -> None:
            found[row] = request.get_output_tensor(0).data[0]

        with one_at_a_time:
            queue.set_callback(keep)
            for row in range(len(images)):
                queue.start_async([np.ascontiguousarray(images[row : row + 1])], row)
            queue.wait_all()
        return found

    return run


def _onnx(model: Model) -> Callable[[Bytes], Singles]:
    ort = engine_module("onnxruntime")
    how = ort.SessionOptions()
    how.intra_op_num_threads = how.inter_op_num_threads = 1
    path = str(model.folder / FILES["onnx"][0])
    session = ort.InferenceSession(path, how, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Bytes) -> Singles:
        rows = [session.run(None, {name: images[i : i + 1]})[0] for i in range(len(images))]
        return np.concatenate(rows)

    return run
