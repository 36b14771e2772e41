"""The encoder: weights + preprocessor + the name of its feature space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellkin.core.arrays import Array, Bytes, Floats, Singles
from cellkin.core.artifacts import (
    digest,
    read_arrays,
    read_json,
    write_arrays,
    write_bytes,
    write_json,
)
from cellkin.core.errors import ArtifactError
from cellkin.core.manifests import read_manifest, write_manifest
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Features
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.foreign import WEIGHTS, require_name, require_own

if TYPE_CHECKING:  # torch takes seconds to import, and a compiled encoder does without
    import torch
    from torch import Tensor

    from cellkin.learning.networks import Network

SCHEMA = 1
CHUNK = 8  # images in one forward pass; larger chunks only cost memory
MANIFEST = "encoder.json"
SEEN = "seen.safetensors"
PRECISION = "fp32"  # of the network when it looks; part of the identity of the space


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU.

    Raises:
        ArtifactError: the device is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArtifactError(
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}",
            where="--device",
            mend="use --device cpu or --device auto",
        ) from error
    return device


def seen_pixels(folder: Path) -> tuple[str, ...]:
    """The marks of an encoder folder that `Encoder.seen_pixels` describes; () where it has none."""
    if not (folder / SEEN).is_file():
        return ()
    return tuple(bytes(row).hex() for row in read_arrays(folder / SEEN)["pixels"])


@dataclass(frozen=True)
class Views:
    """What the network made of N images in one forward pass, all float32.

    Attributes:
        maps: the feature map A, (N, C, h, w); tokens (N, 1 + P, C) for a transformer.
        features: (N, C), pooled from the very same map.
        logits: (N, K) of the class head.
    """

    maps: Singles
    features: Singles
    logits: Singles

    def __len__(self) -> int:
        return len(self.features)


class Encoder:
    """A network in evaluation mode, with the preprocessor it was made with.

    One that was translated for an engine is a `cellkin.learning.compiled.CompiledEncoder`.

    Args:
        network: its weights are used as they are at each call.
        preprocessor: crop, resize and z-score.
        classes: names of the K classes of the head, in its order.
        recipe: how it was trained, plain data; for provenance.
        device: where it computes.

    Attributes:
        trained_on: fingerprints of the prepared images it has learned from or was selected on.
        seen_pixels: of the images that its first weights have learned from, as decoded: the first
            16 digits of `pixels_sha256`; packaged encoders, and what starts from them, know.
        heads: after multitask pretraining, the codes of each label level; the one head's rows are
            those of the levels, one below the other. Empty for cells.
        tasks: names of these levels, where they have any.
        documents: name -> text that is written along, such as the model card.
    """

    device: torch.device
    network: Network

    def __init__(
        self,
        network: Network,
        preprocessor: Preprocessor,
        classes: Sequence[str],
        *,
        recipe: dict[str, Any] | None = None,
        device: torch.device | None = None,
    ) -> None:
        import torch

        self._describe(preprocessor, classes, recipe)
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._found_sizes: dict[tuple[int, int], tuple[int, int]] = {}

    def _describe(
        self, preprocessor: Preprocessor, classes: Sequence[str], recipe: dict[str, Any] | None
    ) -> None:
        self.preprocessor = preprocessor
        self.classes = tuple(classes)
        self.recipe = dict(recipe or {})
        self.trained_on: tuple[str, ...] = ()
        self.seen_pixels: tuple[str, ...] = ()
        self.heads: tuple[tuple[str, ...], ...] = ()
        self.tasks: tuple[str, ...] = ()
        self.documents: dict[str, str] = {}

    @property
    def backbone(self) -> str:
        """The name of the backbone."""
        return self.network.backbone

    @property
    def pooling(self) -> str:
        """ "average" or "token", see `Network`."""
        return self.network.pooling

    @property
    def norm(self) -> str:
        """ "batch" or "group", see `Network`."""
        return self.network.norm

    @property
    def width(self) -> int:
        """The number of feature dimensions C."""
        return self.network.width

    @property
    def layer(self) -> str:
        """The name of the feature map, for captions."""
        return self.network.layer

    @property
    def precision(self) -> str:
        """What the network computes in when it looks; part of the identity of the space."""
        return PRECISION

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def weights_sha256(self) -> str:
        """Hash of the backbone's weights (not of the head, which no feature depends on)."""
        total = hashlib.sha256()
        for name, tensor in sorted(self.network.body.state_dict().items()):
            if "num_batches_tracked" in name:
                continue
            total.update(f"{name}{tuple(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    @property
    def space(self) -> str:
        """The name of the feature space: a hash of weights, preprocessor, pooling and precision."""
        return digest(self._identity())

    def _identity(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone,
            "weights": self.weights_sha256,
            "preprocessor": self.preprocessor.identity(),
            "pooling": self.pooling,
            "precision": self.precision,
        }

    def view(self, images: Bytes) -> Views:
        """Look at prepared images.

        Args:
            images: (N, S, S, 3) uint8, as `Preprocessor.prepare` makes them. The result for one
                image does not depend on the others.
        """
        import torch

        parts = zip(*self._passes(images), strict=True)
        return Views(*(torch.cat(part).cpu().numpy() for part in parts))

    def embed(self, images: Bytes, ids: Sequence[str], *, progress: Progress = silent) -> Features:
        """The features of prepared images (N, S, S, 3) uint8, without keeping their maps."""
        return Features(tuple(ids), self.vectors(images, progress=progress), self.space)

    def vectors(self, images: Bytes, *, progress: Progress = silent) -> Singles:
        """(N, C) features of prepared images, without hashing the weights to name their space."""
        found, done = [], 0
        for _, features, _ in self._passes(images):
            found.append(features.cpu().numpy())
            done += len(features)
            progress("looking at the cells", done, len(images))
        empty = np.zeros((0, self.width), np.float32)
        return np.concatenate(found) if found else empty

    def _passes(self, images: Bytes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Maps, features and logits, pass by pass.

        Libraries choose other algorithms for other batch sizes, which round otherwise. So images
        pass in full chunks, and the rest in the smallest group that gives the same bits here,
        filled up with copies: a decision never depends on what else was in the batch.
        """
        chunk, group = self._sizes(images[:1]) if len(images) else (CHUNK, 1)
        whole = len(images) // chunk * chunk
        for start in range(0, whole, chunk):
            yield self._forward(images[start : start + chunk])
        for start in range(whole, len(images), group):
            rest = images[start : start + group]
            filled = np.concatenate([rest, np.repeat(rest[-1:], group - len(rest), axis=0)])
            maps, features, logits = self._forward(filled)
            yield maps[: len(rest)], features[: len(rest)], logits[: len(rest)]

    def _sizes(self, image: Bytes) -> tuple[int, int]:
        """Chunk and group size for this machine, found once with copies of one image."""
        import torch

        key = (image.shape[1], torch.get_num_threads())
        if key not in self._found_sizes:
            full = self._forward(np.repeat(image, CHUNK, axis=0))[0]
            if not torch.equal(full, full[:1].expand_as(full)):
                self._found_sizes[key] = (1, 1)
                return 1, 1
            group = CHUNK
            for smaller in (1, 2, 4):
                if torch.equal(self._forward(np.repeat(image, smaller, axis=0))[0], full[:smaller]):
                    group = smaller
                    break
            self._found_sizes[key] = (CHUNK, group)
        return self._found_sizes[key]

    def _forward(self, images: Bytes) -> tuple[Tensor, Tensor, Tensor]:
        import torch

        self.network.eval()
        x = torch.from_numpy(self.preprocessor.normalize(images)).to(
            self.device, memory_format=torch.channels_last
        )
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            maps = self.network.feature_map(x).float().contiguous()
            features = self.network.pool(maps)
            return maps, features, self.network.classify(features)

    def head_weights(self) -> Singles:
        """(K, C) weights of the linear head."""
        weights: Singles = self.network.head.weight.detach().cpu().numpy().copy()
        return weights

    def head_bias(self) -> Singles:
        """(K,) bias of the linear head."""
        bias: Singles = self.network.head.bias.detach().cpu().numpy().copy()
        return bias

    def token_products(self, images: Bytes, directions: Array) -> Floats:
        """Gradient x activation on the patch tokens that enter the last block of a transformer.

        Args:
            images: (N, S, S, 3) uint8, prepared. directions: (N, M, C): for image n the M targets
                are <directions[n, m], f_n>, f_n its feature.

        Returns:
            (N, M, h, w): what each patch adds to a target by its first-order term.
        """
        import torch

        N, M, C = directions.shape
        x = torch.from_numpy(self.preprocessor.normalize(images)).to(self.device)
        entering = self.network.entering_last_block(x)
        tokens = entering.repeat_interleave(M, dim=0).requires_grad_()
        toward = torch.from_numpy(directions.reshape(N * M, C)).to(self.device, torch.float32)
        with torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
            target = (self.network.from_last_block(tokens) * toward).sum()
            (gradient,) = torch.autograd.grad(target, tokens)
        products = (gradient.double() * tokens.detach().double()).sum(2)
        body: Any = self.network.body
        patches = products[:, int(body.num_prefix_tokens) :].cpu().numpy()
        return np.asarray(patches.reshape(N, M, *body.patch_embed.grid_size))

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write `encoder.json`, weights, settings and documents into a folder that exists.

        Args:
            half: in half precision; only weights that are rounded to it already keep their space.
        """
        self._save_weights(folder, half)
        if self.seen_pixels:
            marks = [np.frombuffer(bytes.fromhex(mark), np.uint8) for mark in self.seen_pixels]
            write_arrays(folder / SEEN, {"pixels": np.stack(marks)})
        write_json(folder / "settings.json", self._settings())
        for name, text in self.documents.items():
            write_bytes(folder / name, text.encode())
        write_manifest(
            folder, "encoder.json", {"kind": "encoder", "schema": SCHEMA, "space": self.space}
        )

    def _save_weights(self, folder: Path, half: bool) -> None:
        state = {k: v.detach().cpu().numpy() for k, v in self.network.state_dict().items()}
        if half:
            state = {
                k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in state.items()
            }
        write_arrays(folder / WEIGHTS, state)

    def _settings(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone,
            "classes": list(self.classes),
            "preprocessor": self.preprocessor.identity(),
            "recipe": self.recipe,
            "trained_on": list(self.trained_on),
            "norm": self.norm,
            "heads": [list(codes) for codes in self.heads],
            **({"tasks": list(self.tasks)} if self.tasks else {}),
            "documents": sorted(self.documents),
        }

    @classmethod
    def open(cls, folder: Path, *, device: str | torch.device | None = None) -> Self:
        """Read an encoder of this kind that `save` wrote; `cellkin.learning.opening` reads any.

        Raises:
            ArtifactError: it is damaged, or makes another space than its manifest says; the device
                is not there.
        """
        needs = ("settings.json",)
        manifest = read_manifest(folder, MANIFEST, kind="encoder", schema=SCHEMA, needs=needs)
        settings = read_json(folder / needs[0])
        require_own(settings, manifest["files"], folder, cls._files(settings))
        encoder = cls._read(folder, settings, device)
        encoder.trained_on = tuple(settings["trained_on"])
        encoder.seen_pixels = seen_pixels(folder) if SEEN in manifest["files"] else ()
        encoder.heads = tuple(tuple(codes) for codes in settings.get("heads", ()))
        encoder.tasks = tuple(settings.get("tasks", ()))
        encoder.documents = {
            name: (folder / name).read_text(encoding="utf-8")
            for name in settings.get("documents", ())
        }
        if encoder.space != manifest["space"]:
            raise ArtifactError(
                "this encoder makes another feature space than its manifest says",
                where=folder,
                mend="restore the folder from a copy, or make it again",
            )
        return encoder

    @classmethod
    def _files(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return (WEIGHTS,)

    @classmethod
    def _read(
        cls, folder: Path, settings: dict[str, Any], device: str | torch.device | None
    ) -> Self:
        return cls(
            read_network(folder, settings),
            Preprocessor.from_json(settings["preprocessor"]),
            settings["classes"],
            recipe=settings["recipe"],
            device=choose_device(device) if isinstance(device, str) else device,
        )


def read_network(folder: Path, settings: dict[str, Any]) -> Network:
    """The network of an encoder's folder.

    Raises:
        ArtifactError: its weights do not fit.
    """
    import torch

    from cellkin.learning.networks import Network

    require_name(settings["backbone"], folder)
    network = Network(
        settings["backbone"],
        len(settings["classes"]),
        size=settings["preprocessor"]["size"],
        norm=settings.get("norm", "batch"),
    )
    arrays = read_arrays(folder / WEIGHTS)
    try:
        network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in arrays.items()})
    except RuntimeError as error:
        raise ArtifactError(
            "the weights do not fit the backbone they are stored with",
            where=folder,
            mend="make the encoder again with this version of cellkin and timm",
        ) from error
    return network
