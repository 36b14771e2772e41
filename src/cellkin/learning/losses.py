"""The losses of fine-tuning (section 3.3, Eqs. 3-5) and the orthogonality of kernels (Eq. 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellkin.core.errors import RecipeError, TrainingError
from cellkin.learning.orthogonality import orthogonality

__all__ = [
    "FineTuningLoss",
    "LossParts",
    "batch_hard",
    "class_weights",
    "covered_convolutions",
    "orthogonality",
    "required_convolutions",
    "triplet_margin",
]


def class_weights(labels: Sequence[int], classes: Sequence[str]) -> Tensor:
    """N / count of every class over the training subset (Eq. 4): (K,) float32.

    Raises:
        TrainingError: a class has no training cell.
    """
    counts = torch.bincount(torch.as_tensor(labels, dtype=torch.int64), minlength=len(classes))
    if absent := [name for name, n in zip(classes, counts.tolist(), strict=True) if n == 0]:
        raise TrainingError(
            f"no training cell of class {', '.join(absent)}",
            where="the training subset",
            mend="add cells (by subject: subjects) of this class, or leave the class out",
        )
    return (len(labels) / counts).float()


def triplet_margin(margin: float) -> nn.Module:
    """Eq. 3: max(d(a, p) - d(a, n) + margin, 0), Euclidean on un-normalised features.

    All valid triplets of the batch; the mean over those that are not zero.
    """
    from pytorch_metric_learning import distances, losses  # takes long to import

    distance = distances.LpDistance(normalize_embeddings=False, p=2, power=1)
    loss: nn.Module = losses.TripletMarginLoss(margin=margin, distance=distance)
    return loss


def batch_hard() -> nn.Module:
    """Per cell of a batch its farthest cell of the same class and its nearest of another one.

    Distances are those of Eq. 3. Cells without another one of their class are no anchors.
    """
    from pytorch_metric_learning import distances, miners

    distance = distances.LpDistance(normalize_embeddings=False, p=2, power=1)
    miner: nn.Module = miners.BatchHardMiner(distance=distance)
    return miner


def covered_convolutions(body: nn.Module, covers: str = "residual") -> list[nn.Conv2d]:
    """What the orthogonality loss covers; never grouped convolutions.

    Args:
        covers: "residual": per residual block the first 3 x 3 convolution, and the 1 x 1
            convolutions of the downsampling paths, not the stem. "pointwise": every 1 x 1
            convolution, for networks without such blocks.
    """
    if covers == "pointwise":
        return _convolutions(body.modules(), (1, 1))
    found: list[nn.Conv2d] = []
    for block in body.modules():
        shortcut = getattr(block, "downsample", None)
        if not hasattr(block, "conv2") or not hasattr(block, "conv1"):
            continue
        found += _convolutions(block.children(), (3, 3))[:1]
        if isinstance(shortcut, nn.Module):
            found += _convolutions(shortcut.modules(), (1, 1))
    return found


def _convolutions(modules: Iterable[nn.Module], size: tuple[int, int]) -> list[nn.Conv2d]:
    """Those with kernels of this size that are not grouped."""
    convolutions = (m for m in modules if isinstance(m, nn.Conv2d) and m.groups == 1)
    return [c for c in convolutions if c.kernel_size == size]


def required_convolutions(body: nn.Module, covers: str) -> list[nn.Conv2d]:
    """`covered_convolutions`, where there must be some.

    Raises:
        RecipeError: the backbone has no convolution that would be covered.
    """
    found = covered_convolutions(body, covers)
    if not found:
        other = "" if covers == "pointwise" else "set orthogonal = 'pointwise', "
        raise RecipeError(
            "the orthogonality loss covers no convolution of this backbone",
            where=f"recipe field orthogonality, with orthogonal = {covers!r}",
            mend=f"set orthogonality = 0, {other}or use a residual network such as resnet18",
        )
    return found


@dataclass(frozen=True)
class LossParts:
    """One step's loss and its parts (Eq. 5); each a scalar tensor."""

    total: Tensor
    metric: Tensor
    cross_entropy: Tensor
    orthogonality: Tensor


class FineTuningLoss:
    """Eq. 5: triplet margin + lambda x orthogonality + weighted cross-entropy.

    Args:
        body: the backbone whose convolutions are kept orthogonal.
        weights: (K,) class weights of the cross-entropy, None for the unweighted warm-up loss.
        margin: of Eq. 3. metric: factor of Eq. 3 (1 in the paper, 0 leaves it out).
        lam: lambda, 0 leaves the orthogonality out. covers: see `covered_convolutions`.

    Attributes:
        miner: chooses the triplets; None takes all valid ones.
        bf16: multiply in bfloat16 for the orthogonality, see `orthogonality`.

    Raises:
        RecipeError: lambda > 0 and the backbone has no convolution that it would cover.
    """

    def __init__(
        self,
        body: nn.Module,
        weights: Tensor | None,
        *,
        margin: float,
        metric: float,
        lam: float,
        covers: str = "residual",
    ) -> None:
        self.weights, self.metric, self.lam = weights, metric, lam
        self.bf16 = False
        self.triplet = triplet_margin(margin)
        self.miner: nn.Module | None = None
        self.covered = required_convolutions(body, covers) if lam > 0 else []

    def __call__(self, features: Tensor, logits: Tensor, labels: Tensor) -> LossParts:
        zero = features.new_zeros(())
        cross_entropy = F.cross_entropy(logits, labels, weight=self.weights)
        chosen = self.miner(features, labels) if self.miner and self.metric > 0 else None
        metric = self.triplet(features, labels, chosen) if self.metric > 0 else zero
        orth = orthogonality(self.covered, bf16=self.bf16) if self.lam > 0 else zero
        total = self.metric * metric + self.lam * orth + cross_entropy
        return LossParts(total, metric, cross_entropy, orth)
