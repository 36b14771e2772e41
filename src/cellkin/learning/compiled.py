"""An encoder whose network was translated for an engine: the same questions, without torch.

The feature is pooled from the very map that the engine returns, in float64, so whatever the engine
computes in, evidence adds up to what it explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellkin.core.arrays import Bytes, Singles
from cellkin.core.artifacts import read_arrays
from cellkin.core.errors import ArtifactError
from cellkin.core.progress import Progress, silent
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.encoder import Encoder, Views, read_network
from cellkin.learning.engines import FILES, Model
from cellkin.learning.foreign import WEIGHTS

if TYPE_CHECKING:
    import torch

    from cellkin.learning.networks import Network

CHUNK = 32  # images whose maps are in memory at once
KNOWN = ("backbone", "pooling", "norm", "layer", "weights_sha256")
"""What it knows of the network that was translated, kept in its settings."""


class CompiledEncoder(Encoder):
    """An encoder that looks by an engine.

    Args:
        model: the translated network. preprocessor, classes, recipe: see `Encoder`.
        known: `KNOWN` -> what the network was.
        source: the folder where its weights lie; None where they are not kept, and it has no head.
    """

    def __init__(
        self,
        model: Model,
        preprocessor: Preprocessor,
        classes: Sequence[str],
        *,
        known: dict[str, str],
        source: Path | None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        self._describe(preprocessor, classes, recipe)
        self.model, self.known, self.source = model, dict(known), source

    @property
    def backbone(self) -> str:
        return self.known["backbone"]

    @property
    def pooling(self) -> str:
        return self.known["pooling"]

    @property
    def norm(self) -> str:
        return self.known["norm"]

    @property
    def layer(self) -> str:
        return self.known["layer"]

    @property
    def weights_sha256(self) -> str:
        return self.known["weights_sha256"]

    @property
    def precision(self) -> str:
        return self.model.precision

    @property
    def engine(self) -> str:
        """The name of the engine."""
        return self.model.engine

    @property
    def on_gpu(self) -> bool:
        return False

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where `network` computes."""
        import torch

        return torch.device("cpu")

    @cached_property
    def network(self) -> Network:  # type: ignore[override]
        """The network that was translated, as torch knows it; it is read when it is asked for."""
        return read_network(self._source, self._settings()).eval()

    @property
    def _source(self) -> Path:
        if self.source is None:
            raise ArtifactError(
                "the weights of this compiled network were not kept",
                where=self.model.folder,
                mend="take the encoder that it was compiled from",
            )
        return self.source

    @cached_property
    def _weights(self) -> dict[str, Any]:
        return {} if self.source is None else dict(read_arrays(self.source / WEIGHTS))

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "engine": self.engine, "model": self.model.sha256}

    def view(self, images: Bytes) -> Views:
        maps = self.model.maps(images)
        features = self._pooled(maps)
        return Views(maps, features, features @ self.head_weights().T + self.head_bias())

    def vectors(self, images: Bytes, *, progress: Progress = silent) -> Singles:
        found = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(images), CHUNK):
            found.append(self._pooled(self.model.maps(images[start : start + CHUNK])))
            progress("looking at the cells", min(start + CHUNK, len(images)), len(images))
        return np.concatenate(found)

    def _pooled(self, maps: Singles) -> Singles:
        if self.pooling == "token":
            return maps[:, 0].copy()
        return np.asarray(maps.mean((2, 3), dtype=np.float64), np.float32)

    @cached_property
    def width(self) -> int:
        size = self.preprocessor.size
        return int(self._pooled(self.model.maps(np.zeros((1, size, size, 3), np.uint8))).shape[1])

    def head_weights(self) -> Singles:
        return np.array(self._weights.get("head.weight", np.zeros((0, self.width), np.float32)))

    def head_bias(self) -> Singles:
        return np.array(self._weights.get("head.bias", np.zeros(0, np.float32)))

    def _save_weights(self, folder: Path, half: bool) -> None:
        if self.source is not None:
            (folder / WEIGHTS).write_bytes((self.source / WEIGHTS).read_bytes())
        self.model.save(folder)

    def _settings(self) -> dict[str, Any]:
        engine = {"name": self.engine, "precision": self.precision, "known": self.known}
        return {**super()._settings(), "engine": engine}

    @classmethod
    def _files(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(FILES[settings["engine"]["name"]])

    @classmethod
    def _read(
        cls, folder: Path, settings: dict[str, Any], device: str | torch.device | None
    ) -> Self:
        if device is not None and str(device) not in ("auto", "cpu"):
            raise ArtifactError(
                f"this encoder was compiled for the processor and cannot run on {device}",
                where=folder,
                mend="use --device cpu, or the atlas that it was compiled from",
            )
        told = settings["engine"]
        return cls(
            Model(folder, told["name"], told["precision"]),
            Preprocessor.from_json(settings["preprocessor"]),
            settings["classes"],
            known=told["known"],
            source=folder if (folder / WEIGHTS).is_file() else None,
            recipe=settings["recipe"],
        )
