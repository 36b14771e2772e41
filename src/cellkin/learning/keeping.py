"""What a training has found by now: its log, and the weights of its best epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellkin.core.errors import TrainingError
from cellkin.learning import checkpoints, optimizers
from cellkin.learning.networks import Network
from cellkin.measures.paired import mcnemar

BEYOND_CHANCE = 0.05  # p of a start that is given up


class Kept:
    """The log of a training and its best epoch, kept with every checkpoint.

    Attributes:
        history: one row per epoch. best: the row of the selected one, empty before there is one.
        state: its weights.
        start: which validation cells the first weights have right, where they compete.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.state: dict[str, Tensor] | None = None
        self.start: tuple[bool, ...] = ()

    def begin(self, row: dict[str, Any], right: Sequence[bool]) -> None:
        """The first weights compete: they stay until an epoch is better beyond chance."""
        self.start = tuple(right)
        self._select(row)

    def beats_start(self, right: Sequence[bool]) -> bool:
        """Whether these are more right calls than the start's, beyond chance; True without one."""
        if not self.start or self.best["phase"] != "warm-up":
            return True
        pairs = list(zip(right, self.start, strict=True))
        gained, lost = pairs.count((True, False)), pairs.count((False, True))
        return gained > lost and mcnemar(gained, lost) <= BEYOND_CHANCE

    def offer(self, row: dict[str, Any], measure: str) -> None:
        """Select an epoch that is the best by now: `measure` larger, then `val_loss` smaller; one
        that is not a number is never better. Offered before it is added to the history.
        """
        found = (row[measure], -row["val_loss"])
        if self.best and not found > (self.best[measure], -self.best["val_loss"]):
            return
        for earlier in self.history:
            earlier["selected"] = False
        self._select(row)

    def _select(self, row: dict[str, Any]) -> None:
        row["selected"] = True
        self.best = dict(row)
        self.state = {k: v.clone() for k, v in self.network.state_dict().items()}

    def save(
        self, run: Path, step: int, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any]
    ) -> None:
        """Write the checkpoint after `step` epochs, and the log.

        Raises:
            OutputError: no room on the disk; the checkpoint before it stays.
        """
        facts = {**identity, "history": self.history, "best": self.best}
        facts["start"] = [int(right) for right in self.start]
        state = optimizers.tensors(optimizer, self.network)
        own = checkpoints.Checkpoint(step, self.network.state_dict(), state, self.state, facts)
        checkpoints.save(run / "checkpoints", own)
        checkpoints.write_log(run, self.history)

    def restore(self, found: checkpoints.Checkpoint) -> None:
        """Go back to a checkpoint."""
        self.network.load_state_dict(found.network)
        self.history, self.best = list(found.facts["history"]), dict(found.facts["best"])
        self.state = dict(found.best) if found.best else None
        self.start = tuple(map(bool, found.facts.get("start", ())))

    def finish(self, run: Path) -> None:
        """Give the network the weights of the best epoch, in evaluation mode.

        Raises:
            TrainingError: no epoch was validated.
        """
        if self.state is None:
            raise TrainingError("no epoch was validated", where=run, mend="train again")
        self.network.load_state_dict(self.state)
        self.network.eval()
