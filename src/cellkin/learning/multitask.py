"""The losses of multitask pretraining (section 3.1, Eqs. 1-2) and the scores of its levels.

Beyond the paper, a level may hold exactly one code for each image (`single`: a cell has one class),
and may be known of some images alone (`UNKNOWN`): several data sets with labels of different kinds
then teach one network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellkin.core.arrays import Bytes, Singles
from cellkin.learning.losses import orthogonality, required_convolutions

UNKNOWN = 255  # target of every code of a level that nobody has judged on this image
SMOOTHING = 0.05  # of the targets of a level with one code for each image
LEAST_COUNT = 10  # a code seen less often weighs no more than one seen this often


def code_weights(targets: Bytes) -> Tensor:
    """N / max(count, 10) of every code over the training part (Eq. 1): (C,) float32.

    N counts the images on which the code was judged.
    """
    judged = targets != UNKNOWN
    counts = torch.from_numpy((targets * judged).sum(axis=0, dtype=np.int64))
    n = torch.from_numpy(judged.sum(axis=0, dtype=np.int64))
    return n.float() / counts.clamp(min=LEAST_COUNT).float()


def multilabel_soft_margin(
    logits: Tensor, targets: Tensor, weights: Tensor | None, *, positive_only: bool = False
) -> Tensor:
    """Eq. 1 for one level: the mean over images and codes of the weighted soft-margin loss.

    Args:
        logits: (N, C). targets: (N, C) of 0 and 1. weights: (C,), None for ones.
        positive_only: the weight on the positive term alone, as Eq. 1 is printed. By default on
            both terms, as torch's `MultiLabelSoftMarginLoss` has it.
    """
    w = torch.ones_like(logits[0]) if weights is None else weights
    present, absent = targets * F.logsigmoid(logits), (1 - targets) * F.logsigmoid(-logits)
    terms = w * present + (absent if positive_only else w * absent)
    return -terms.mean()


@dataclass(frozen=True)
class Level:
    """One level of labels.

    Attributes:
        codes: how many. single: every image has exactly one of them. importance: weight of its loss
            in the mean over the levels; equal ones give the mean of Eq. 2.
    """

    codes: int
    single: bool = False
    importance: float = 1.0


@dataclass(frozen=True)
class PretrainingParts:
    """One step's loss and its parts (Eq. 2): scalars, and one scalar per level."""

    total: Tensor
    levels: tuple[Tensor, ...]
    orthogonality: Tensor


class PretrainingLoss:
    """Eq. 2: weighted mean over the levels' losses + lambda x orthogonality.

    Args:
        body: the backbone whose convolutions are kept orthogonal.
        levels: the levels; logits and targets hold their codes beside each other.
        weights: (C,) of all codes, None for ones.
        lam: lambda, 0 leaves the orthogonality out. covers: see `covered_convolutions`.
        positive_only: see `multilabel_soft_margin`.

    Raises:
        RecipeError: lambda > 0 and the backbone has no convolution that it would cover.
    """

    def __init__(
        self,
        body: nn.Module,
        levels: Sequence[Level],
        weights: Tensor | None,
        *,
        lam: float,
        covers: str = "residual",
        positive_only: bool = False,
    ) -> None:
        self.levels, self.lam, self.positive_only = tuple(levels), lam, positive_only
        self.sizes = [level.codes for level in levels]
        ones = torch.ones(sum(self.sizes)) if weights is None else weights
        self.weights = torch.split(ones, self.sizes)
        importance = torch.tensor([level.importance for level in levels])
        self.importance = importance / importance.sum()
        self.covered = required_convolutions(body, covers) if lam > 0 else []
        self.bf16 = False

    def __call__(self, logits: Tensor, targets: Tensor) -> PretrainingParts:
        """The loss of a batch: (N, C) logits and targets of all levels."""
        levels = tuple(
            self._of_level(level, x, y, w.to(x.device))
            for level, x, y, w in zip(
                self.levels, *self._by_level(logits, targets), self.weights, strict=True
            )
        )
        orth = orthogonality(self.covered, bf16=self.bf16) if self.lam > 0 else logits.new_zeros(())
        total = (torch.stack(levels) * self.importance.to(logits.device)).sum() + self.lam * orth
        return PretrainingParts(total, levels, orth)

    def _of_level(self, level: Level, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The mean over the images that the level is known of, times their share of the batch."""
        known = targets[:, 0] != UNKNOWN
        share = known.float().mean()
        if not known.any():
            return logits.sum() * 0.0
        x, y = logits[known], targets[known]
        if level.single:
            return share * F.cross_entropy(
                x, y.argmax(1), weight=weights, label_smoothing=SMOOTHING
            )
        return share * multilabel_soft_margin(x, y, weights, positive_only=self.positive_only)

    def _by_level(self, *values: Tensor) -> list[tuple[Tensor, ...]]:
        return [torch.split(value, self.sizes, 1) for value in values]


def level_scores(logits: Singles, targets: Bytes) -> dict[str, Any]:
    """How well one level's codes are found: plain data.

    Args:
        logits, targets: (N, C) of the validation part; images with `UNKNOWN` are left out.

    Returns:
        `map`: mean over the codes of the average precision; `f1`: mean over the codes at
        probability 0.5; `frequency`: mean share of images that carry a code, which is the mAP of
        guessing; `codes` of them were scored: those that some, but not all, of the images carry.
        All three are None where no code could be scored.
    """
    from sklearn.metrics import average_precision_score, f1_score

    known = targets[:, 0] != UNKNOWN
    logits, targets = logits[known], targets[known]
    counts = targets.sum(axis=0, dtype=np.int64)
    scored = np.flatnonzero((counts > 0) & (counts < len(targets)))
    if not len(scored):
        return {"map": None, "f1": None, "frequency": None, "codes": 0}
    x, y = logits[:, scored], targets[:, scored]
    return {
        "map": float(np.mean([average_precision_score(y[:, i], x[:, i]) for i in range(len(y.T))])),
        "f1": float(
            np.mean([f1_score(y[:, i], x[:, i] > 0, zero_division=0.0) for i in range(len(y.T))])
        ),
        "frequency": float(y.mean()),
        "codes": len(scored),
    }
