"""Backbones by name: one feature map, one pooled feature, one linear head.

The feature space of the paper's section 4.1 is the globally average-pooled output A of the last
convolutional stage; for vision transformers it is the class token after the final layer norm. The
triplet loss, the neighbours, the heatmaps and the map all read this one feature.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cellkin.core.errors import WeightsError, did_you_mean

__all__ = ["BACKBONES", "Network", "backbone_names", "body_settings", "timm"]

BACKBONES = ("tf_efficientnet_lite0", "resnet18", "resnet34", "resnet50", "vit_base_patch16_224")
"""The backbones that cellkin trains in its tests. Every other timm model is probed when it is
built: it works exactly, or is refused with the reason."""

GROUPS = (
    32  # of a group norm, as Wu and He (2018) take them; fewer where the channels do not divide
)


def _declare_missing_torchvision_operators() -> None:
    """Let a CUDA build of torchvision be imported beside a CPU build of torch.

    timm imports torchvision, whose import fails where torch knows no `nms`. Only the two schemas
    are declared, so that a call of them would still fail; nothing in cellkin calls them.
    """
    if torch.version.cuda is not None or "+cpu" in importlib.metadata.version("torchvision"):
        return
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}{schema}")  # type: ignore[no-untyped-call]
    _KEPT.append(library)


_KEPT: list[torch.library.Library] = []  # a declaration lives as long as its library object
_declare_missing_torchvision_operators()

import timm  # noqa: E402  (after the operators are declared)


def backbone_names() -> list[str]:
    """Every backbone name that can be given to `Network`."""
    return [str(name) for name in timm.list_models()]


def body_settings(backbone: str, size: int | None) -> dict[str, Any]:
    """What timm must be told so that a backbone takes images of `size` pixels (None: its own size).

    Transformers are built for one size: their position embeddings have one entry per patch.

    Raises:
        WeightsError: no such backbone.
    """
    if backbone not in BACKBONES and not timm.is_model(backbone):
        hint = did_you_mean(backbone, [*BACKBONES, *backbone_names()])
        raise WeightsError(
            f"there is no backbone {backbone!r}",
            where="backbone",
            mend=hint or f"use one of {', '.join(BACKBONES)} or another timm model",
        )
    own: Any = timm.models.get_pretrained_cfg(backbone)
    if size is None or own is None or not own.fixed_input_size or own.input_size[-1] == size:
        return {}
    return {"img_size": size}


class Network(nn.Module):
    """A timm backbone with its feature map, its pooled feature and a linear head.

    Args:
        backbone: a timm model name, for instance one of `BACKBONES`.
        classes: number of classes K of the head.
        size: side of the images in pixels; only transformers are built for one. None is the size
            that the backbone was published with.
        norm: "batch" as published, or "group": every batch norm becomes a group norm, which knows
            no batch and keeps no statistics.

    Attributes:
        width: number of feature dimensions C.
        pooling: "average" over the positions of a feature map, or "token" (class token).
        layer: the name of the feature map, for captions.

    Raises:
        WeightsError: no such backbone, one that takes no images of this size, one without batch
            norms to replace, or one whose feature is not exactly its pooled feature map.
    """

    def __init__(
        self, backbone: str, classes: int, *, size: int | None = None, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.backbone, self.norm = backbone, norm
        body: Any = _body(backbone, size)
        self.body = body
        self.width = int(body.num_features)
        self.pooling = "token" if hasattr(body, "cls_token") else "average"
        self.layer = "last layer norm" if self.pooling == "token" else "last convolutional stage"
        self._channels_last = getattr(body, "output_fmt", "NCHW") == "NHWC"
        if norm == "group":
            _replace_batch_norms(body, backbone)
        if backbone not in BACKBONES:
            self._probe(size)
        self.head = nn.Linear(self.width, classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """A: (N, C, h, w) of a convolutional network; (N, 1 + P, C) tokens of a transformer."""
        body: Any = self.body
        A: Tensor = body.forward_features(x)
        return A.permute(0, 3, 1, 2) if self._channels_last else A

    def _probe(self, size: int | None) -> None:
        """Refuse a backbone whose published feature is not exactly `pool` of its feature map."""
        body: Any = self.body
        side = size or body.pretrained_cfg["input_size"][-1]
        x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        body.eval()
        with torch.inference_mode():
            A, feature = body.forward_features(x), body(x)
            A = A.permute(0, 3, 1, 2) if self._channels_last and A.ndim == 4 else A
            reason = _why_not(A, feature, self.pooling)
            if not reason and not torch.allclose(self.pool(A), feature, rtol=1e-4, atol=1e-5):
                reason = (
                    "its feature is more than the pooled map: a norm or a second token comes "
                    "between the pooling and the head"
                )
        body.train()
        if reason:
            raise WeightsError(
                f"the backbone {self.backbone!r} cannot be explained exactly: {reason}",
                where="backbone",
                mend=f"use one of {', '.join(BACKBONES)}",
            )

    def pool(self, A: Tensor) -> Tensor:
        """(N, C) float32 features of a feature map; always in float32, outside autocast."""
        with torch.autocast(A.device.type, enabled=False):
            return A.float().mean((2, 3)) if self.pooling == "average" else A[:, 0].float()

    def classify(self, features: Tensor) -> Tensor:
        """(N, K) float32 logits of pooled features."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features)
            return logits

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C) and logits (N, K) of images (N, 3, S, S)."""
        features = self.pool(self.feature_map(x))
        return features, self.classify(features)

    def early_stages(self, count: int) -> list[nn.Module]:
        """The stem and the first `count` stages, for freezing; empty for a negative count.

        Raises:
            WeightsError: the backbone names no stages, or fewer than `count`.
        """
        if count < 0:
            return []
        body: Any = self.body
        stem = [m for n in ("conv_stem", "bn1", "conv1") if (m := getattr(body, n, None))]
        if isinstance(blocks := getattr(body, "blocks", None), nn.Sequential) and stem:
            stages = list(blocks)
        else:
            stages = [
                getattr(body, f"layer{i}") for i in (1, 2, 3, 4) if hasattr(body, f"layer{i}")
            ]
        if not stem or len(stages) < count:
            raise WeightsError(
                f"cannot freeze {count} stages of {self.backbone!r}",
                where="recipe field frozen_stages",
                mend="set frozen_stages = -1 to train all layers",
            )
        return [*stem, *stages[:count]]

    def freeze(self, modules: Iterable[nn.Module], *, batch_norms: bool) -> None:
        """Nothing learns in these modules, and their batch norms keep their statistics; with
        `batch_norms` all batch norms keep theirs.
        """
        for module in modules:
            module.eval().requires_grad_(False)
        for module in self.modules() if batch_norms else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def entering_last_block(self, x: Tensor) -> Tensor:
        """(N, 1 + P, C) tokens that enter the last block of a transformer, without gradients.

        On the output of that block the gradient of the class token with respect to the patches is
        exactly zero; what enters it is the last place where patches still speak.
        """
        body: Any = self.body
        caught: list[Tensor] = []
        hook = body.blocks[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        try:
            with torch.no_grad():
                body.forward_features(x)
        finally:
            hook.remove()
        return caught[0].detach()

    def from_last_block(self, tokens: Tensor) -> Tensor:
        """(N, C) features of tokens that enter the last block; keeps gradients."""
        body: Any = self.body
        return self.pool(body.norm(body.blocks[-1](tokens)))


def _body(backbone: str, size: int | None) -> Any:
    settings = body_settings(backbone, size)
    try:
        body: Any = timm.create_model(backbone, pretrained=False, num_classes=0, **settings)
    except (TypeError, AssertionError, ValueError) as error:
        if not settings:
            raise
        published: Any = timm.models.get_pretrained_cfg(backbone)
        own = published.input_size[-1]
        raise WeightsError(
            f"the backbone {backbone!r} cannot be built for images of {size} pixels",
            where=f"size = {size} ({str(error).splitlines()[0] if str(error) else 'refused'})",
            mend=f"set size = {own}, for which it was published",
        ) from error
    patch = getattr(getattr(body, "patch_embed", None), "patch_size", None)
    if size is not None and patch is not None and size % patch[0]:
        raise WeightsError(
            f"images of {size} pixels cannot be cut into patches of {patch[0]} pixels",
            where=f"size, backbone {backbone!r}",
            mend=f"set size to a multiple of {patch[0]}, for instance {size // patch[0] * patch[0]}"
            if size > patch[0]
            else f"set size to a multiple of {patch[0]}",
        )
    return body


def _why_not(A: object, feature: Tensor, pooling: str) -> str:
    """Why a map of this shape cannot be what this feature was pooled from; "" where it can."""
    if not isinstance(A, Tensor):
        return "it has several feature maps"
    if pooling == "average" and A.ndim != 4:
        return f"it has no feature map of shape (N, C, h, w), its output has {tuple(A.shape)}"
    channels = A.shape[1] if pooling == "average" else A.shape[-1]
    if feature.ndim != 2 or feature.shape[1] != channels:
        return (
            f"layers after the pooling turn {channels} channels into a feature of shape "
            f"{tuple(feature.shape[1:])}"
        )
    return ""


def _replace_batch_norms(body: nn.Module, backbone: str) -> None:
    """Every batch norm becomes a group norm with the same scale and shift, in place."""
    from timm.layers.norm_act import BatchNormAct2d, GroupNormAct

    found = [
        (parent, name, child)
        for parent in body.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm2d)
    ]
    if not found:
        raise WeightsError(
            f"the backbone {backbone!r} has no batch norm that a group norm could replace",
            where="recipe field norm",
            mend="set norm = 'batch', which leaves the network as it is",
        )
    for parent, name, old in found:
        groups = math.gcd(old.num_features, GROUPS)
        new: nn.Module = nn.GroupNorm(groups, old.num_features, eps=old.eps)
        if isinstance(old, BatchNormAct2d):
            new = GroupNormAct(old.num_features, num_groups=groups, eps=old.eps)
            new.drop, new.act = old.drop, old.act
        setattr(parent, name, new)
