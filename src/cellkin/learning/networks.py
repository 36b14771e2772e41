"""Backbones by name: one feature map, one pooled feature, one linear head.

The feature space of the paper's section 4.1 is the globally average-pooled output A of the last
convolutional stage; for vision transformers it is the class token after the final layer norm. The
triplet loss, the neighbours, the heatmaps and the map all read this one feature.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import torch
from torch import Tensor, nn

from cellkin.core.errors import WeightsError, did_you_mean

__all__ = ["BACKBONES", "Network", "backbone_names", "timm"]

BACKBONES = ("tf_efficientnet_lite0", "resnet18", "resnet34", "resnet50", "vit_base_patch16_224")
"""The backbones that cellkin is tested with; so can every timm model with a pooled feature."""


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


class Network(nn.Module):
    """A timm backbone with its feature map, its pooled feature and a linear head.

    Args:
        backbone: a timm model name, for instance one of `BACKBONES`.
        classes: number of classes K of the head.

    Attributes:
        width: number of feature dimensions C.
        pooling: "average" over the positions of a feature map, or "token" (class token).
        layer: the name of the feature map, for captions.

    Raises:
        WeightsError: no such backbone, or one without a feature map that can be pooled.
    """

    def __init__(self, backbone: str, classes: int) -> None:
        super().__init__()
        if backbone not in BACKBONES and not timm.is_model(backbone):
            hint = did_you_mean(backbone, [*BACKBONES, *backbone_names()])
            raise WeightsError(
                f"there is no backbone {backbone!r}",
                where="backbone",
                mend=hint or f"use one of {', '.join(BACKBONES)} or another timm model",
            )
        self.backbone = backbone
        body: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
        self.body = body
        self.width = int(body.num_features)
        self.pooling = "token" if hasattr(body, "cls_token") else "average"
        self.layer = "last layer norm" if self.pooling == "token" else "last convolutional stage"
        self.head = nn.Linear(self.width, classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """A: (N, C, h, w) of a convolutional network; (N, 1 + P, C) tokens of a transformer."""
        body: Any = self.body
        A: Tensor = body.forward_features(x)
        if self.pooling == "average" and (A.ndim != 4 or A.shape[1] != self.width):
            raise WeightsError(
                f"the backbone {self.backbone!r} has no feature map of shape (N, C, h, w)",
                where=f"its output has shape {tuple(A.shape)}",
                mend=f"use one of {', '.join(BACKBONES)}",
            )
        return A

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
