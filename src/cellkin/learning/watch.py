"""What an epoch's losses were, and whether they are still numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cellkin.core.arrays import Floats
from cellkin.core.errors import TrainingError
from cellkin.learning.losses import LossParts

NAMES = ("loss", "metric loss", "cross-entropy", "orthogonality")
WAIT = 16  # steps whose losses stay on a GPU: reading one waits for all work before it


def kept_after(epochs: int) -> str:
    """What can be gone back to after so many whole epochs, those of warm-up counted."""
    return f"the state after epoch {epochs} is kept" if epochs else "nothing was kept yet"


@dataclass
class LossWatch:
    """The losses of one epoch.

    Attributes:
        epoch: for the error, counted from 1 with the epochs of warm-up, as the progress and the
            checkpoints count. run: the folder that is named there.
    """

    epoch: int
    run: Path
    sums: Floats = field(default_factory=lambda: np.zeros(len(NAMES)))
    cells: int = 0
    waiting: list[tuple[Tensor, Sequence[str], float]] = field(default_factory=list)
    steps: int = 0

    def add(self, parts: LossParts, ids: Sequence[str], rate: float) -> None:
        """Note one step's losses, its cells and its learning rate.

        Raises:
            TrainingError: a loss that is not a finite number, with all that was seen. On a GPU it
                comes up to 16 steps late; nothing of those steps is kept.
        """
        values = (parts.total, parts.metric, parts.cross_entropy, parts.orthogonality)
        self.waiting.append((torch.stack([v.detach() for v in values]), ids, rate))
        if values[0].device.type == "cpu" or len(self.waiting) == WAIT:
            self._look()

    def means(self) -> list[float]:
        """Means over the cells of the epoch: loss, metric loss, cross-entropy, orthogonality."""
        self._look()
        return [float(v) for v in self.sums / self.cells]

    def _look(self) -> None:
        if not self.waiting:
            return
        seen = torch.stack([values for values, _, _ in self.waiting]).cpu().double().numpy()
        for values, (_, ids, rate) in zip(seen, self.waiting, strict=True):
            self.steps += 1
            self.sums += values * len(ids)
            self.cells += len(ids)
            if not np.isfinite(values).all():
                self._refuse(values, ids, rate)
        self.waiting.clear()

    def _refuse(self, values: Floats, ids: Sequence[str], rate: float) -> None:
        told = ", ".join(f"{n} {v:g}" for n, v in zip(NAMES, values, strict=True))
        raise TrainingError(
            f"the loss is not a number in epoch {self.epoch}, step {self.steps}: {told}, "
            f"at lr {rate:g}",
            where=f"{self.run}\n         cells of that step: {', '.join(ids)}",
            mend="look at these cells, or train again with a smaller lr; "
            + kept_after(self.epoch - 1),
        )
