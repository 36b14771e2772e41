"""Warm-up and fine-tuning (sections 3.3 and 5.2), resumable after every epoch.

Randomness of epoch e is drawn from (seed, e) alone, so a run that was stopped and resumed ends
with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellkin.core.artifacts import digest, guarded_writes
from cellkin.core.errors import TrainingError
from cellkin.core.progress import Progress, silent
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning import checkpoints
from cellkin.learning.augmentation import augment
from cellkin.learning.encoder import Encoder
from cellkin.learning.losses import FineTuningLoss, LossParts, class_weights
from cellkin.learning.networks import Network
from cellkin.learning.recipes import Recipe
from cellkin.learning.sampling import TrainingData, batches, epoch_order
from cellkin.learning.selection import validation_vote
from cellkin.learning.weights import initialize

__all__ = ["Trained", "TrainingData", "resolved_precision", "train_encoder"]


@dataclass(frozen=True)
class Trained:
    """A trained encoder and how it got there; `history` has one row per epoch."""

    encoder: Encoder
    history: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Any]


def train_encoder(
    data: TrainingData,
    recipe: Recipe,
    *,
    seed: int,
    run: Path,
    device: torch.device | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train by a recipe; goes on from the newest checkpoint where `run` holds one.

    Args:
        run: folder for checkpoints and the log (`log.jsonl`); made if missing.

    Returns:
        the encoder of the epoch with the best accuracy of the neighbour vote on the validation
        part (ties: lower loss), in evaluation mode.

    Raises:
        TrainingError: a class without training cells, a loss that is not a number, or a
            checkpoint of another recipe, seed or data.
    """
    return _Run(data, recipe, seed=seed, run=run, device=device, progress=progress).finish()


class _Run:
    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        *,
        seed: int,
        run: Path,
        device: torch.device | None,
        progress: Progress,
    ) -> None:
        self.data, self.seed, self.run, self.progress = data, seed, run, progress
        self.device = device or torch.device("cpu")
        precision = resolved_precision(recipe.precision, self.device)
        recipe = self.recipe = recipe.with_changes(precision=precision)
        self.weights = class_weights(data.targets[data.train].tolist(), data.labels.names)
        network, preprocessor = initialize(
            recipe.backbone, len(data.labels.names), recipe.init, size=recipe.size, seed=seed
        )
        if preprocessor is None:
            preprocessor = Preprocessor.fit(data.images[data.train], size=recipe.size)
        preprocessor = replace(preprocessor, unsharpen=recipe.unsharpen)
        self.encoder = Encoder(
            network, preprocessor, data.labels.names, recipe=recipe.to_json(), device=self.device
        )
        self.frozen = network.early_stages(recipe.frozen_stages)
        self.bf16 = precision == "bf16"
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.best_state: dict[str, Tensor] | None = None
        self.steps_per_epoch = len(list(batches(np.arange(len(data.train)), recipe.batch)))

    @property
    def network(self) -> Network:
        network: Network = self.encoder.network
        return network

    def finish(self) -> Trained:
        total = self.recipe.warmup_epochs + self.recipe.epochs
        optimizer, done = self._restore()
        for step in range(done, total):
            if optimizer is None or step == self.recipe.warmup_epochs:
                optimizer = self._optimizer(warm_up=step < self.recipe.warmup_epochs)
            row = self._epoch(step, optimizer)
            self._validate(row, last=step == total - 1)
            self.history.append(row)
            self._checkpoint(step + 1, optimizer)
            self._log()
        if self.best_state is None:
            raise TrainingError("no epoch was validated", where=self.run, mend="train again")
        self.network.load_state_dict(self.best_state)
        self.network.eval()
        return Trained(self.encoder, tuple(self.history), dict(self.best))

    # one epoch ------------------------------------------------------------------------------

    def _epoch(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        warm_up = step < self.recipe.warmup_epochs
        epoch = step + 1 if warm_up else step + 1 - self.recipe.warmup_epochs
        generator = torch.Generator().manual_seed(int(digest([self.seed, step])[:15], 16))
        order = epoch_order(self.data, generator)
        loss_of = self._loss(warm_up)
        self._set_mode(warm_up)
        sums, started = np.zeros(4), time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.initial_seed()))
            for number, batch in enumerate(batches(order, self.recipe.batch)):
                rate = self._rate(epoch, number, warm_up)
                parts = self._step(batch, loss_of, optimizer, rate, generator)
                values = [parts.total, parts.metric, parts.cross_entropy, parts.orthogonality]
                seen = np.array([float(v.detach()) for v in values])
                self._refuse_nan(seen, epoch, number)
                sums += seen * len(batch)
                self._tell(step, number)
        means = sums / len(order)
        return {
            "phase": "warm-up" if warm_up else "fine-tuning",
            "epoch": epoch,
            "loss": means[0],
            "metric_loss": means[1],
            "cross_entropy": means[2],
            "orthogonality": means[3],
            "lr": rate,
            "seconds": round(time.perf_counter() - started, 3),
            "val_accuracy": None,
            "val_loss": None,
            "selected": False,
        }

    def _step(
        self,
        batch: NDArray[np.int64],
        loss_of: FineTuningLoss,
        optimizer: torch.optim.Optimizer,
        rate: float,
        generator: torch.Generator,
    ) -> LossParts:
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = self._augmented(batch, generator)
        y = torch.from_numpy(self.data.targets[batch]).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            maps = self.network.feature_map(x)
        features = self.network.pool(maps)
        parts = loss_of(features, self.network.classify(features), y)
        optimizer.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return parts

    def _augmented(self, batch: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """(B, 3, S, S) float32: turned as uint8, then z-scored by the one preprocessor."""
        images = torch.from_numpy(self.data.images[batch]).permute(0, 3, 1, 2)
        turned = augment(images, self.recipe.rotation, self.recipe.flips, generator)
        pixels = turned.permute(0, 2, 3, 1).contiguous().numpy()
        x = torch.from_numpy(self.encoder.preprocessor.normalize(pixels))
        return x.to(self.device, memory_format=torch.channels_last)

    def _set_mode(self, warm_up: bool) -> None:
        """Training mode, but for what is frozen: its batch norms keep their statistics."""
        self.network.train(not warm_up)
        self.network.requires_grad_(not warm_up)
        self.network.head.requires_grad_(True)
        for module in self.frozen:
            module.eval().requires_grad_(False)
        if self.recipe.frozen_batch_norm:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _loss(self, warm_up: bool) -> FineTuningLoss:
        recipe = self.recipe
        if warm_up:
            return FineTuningLoss(self.network.body, None, margin=1.0, metric=0.0, lam=0.0)
        weights = self.weights.to(self.device) if recipe.class_weighted else None
        return FineTuningLoss(
            self.network.body,
            weights,
            margin=recipe.margin,
            metric=recipe.metric,
            lam=recipe.orthogonality,
        )

    def _rate(self, epoch: int, number: int, warm_up: bool) -> float:
        recipe = self.recipe
        if warm_up:
            return recipe.warmup_lr
        if recipe.schedule == "step":
            return float(recipe.lr * recipe.lr_factor ** ((epoch - 1) // recipe.lr_every))
        total = recipe.epochs * self.steps_per_epoch
        done = (epoch - 1) * self.steps_per_epoch + number
        rise = min(1.0, (done + 1) / max(1.0, 0.03 * total))
        return float(recipe.lr * rise * 0.5 * (1.0 + math.cos(math.pi * done / total)))

    def _optimizer(self, warm_up: bool) -> torch.optim.Optimizer:
        recipe = self.recipe
        self._set_mode(warm_up)
        learned = [p for p in self.network.parameters() if p.requires_grad]
        if recipe.optimizer == "adamw" and not warm_up:
            return torch.optim.AdamW(learned, lr=recipe.lr, weight_decay=recipe.weight_decay)
        return torch.optim.SGD(
            learned, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )

    # selection ------------------------------------------------------------------------------

    def _validate(self, row: dict[str, Any], *, last: bool) -> None:
        """Measure the neighbour vote on the validation part; keep the weights if it is the best."""
        epoch, recipe = row["epoch"], self.recipe
        due = epoch >= recipe.validate_from and epoch % recipe.validate_every == 0
        if row["phase"] == "warm-up" or not (due or last):
            return
        row["val_accuracy"], row["val_loss"] = validation_vote(
            self.encoder, self.data, self.recipe, self.weights
        )
        if not self.best or (row["val_accuracy"], -row["val_loss"]) > (
            self.best["val_accuracy"],
            -self.best["val_loss"],
        ):
            for earlier in self.history:
                earlier["selected"] = False
            row["selected"] = True
            self.best = dict(row)
            self.best_state = {k: v.clone() for k, v in self.network.state_dict().items()}

    # keeping and telling --------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {"recipe": self.recipe.to_json(), "seed": self.seed, "data": self.data.id}

    def _checkpoint(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        names: dict[Any, str] = {p: n for n, p in self.network.named_parameters()}
        state = {
            names[p]: {k: v for k, v in values.items() if isinstance(v, Tensor)}
            for p, values in optimizer.state.items()
        }
        facts = {**self._identity(), "history": self.history, "best": self.best}
        checkpoints.save(
            self.run / "checkpoints",
            checkpoints.Checkpoint(step, self.network.state_dict(), state, self.best_state, facts),
        )

    def _restore(self) -> tuple[torch.optim.Optimizer | None, int]:
        found = checkpoints.load_latest(self.run / "checkpoints")
        if found is None:
            return None, 0
        for key, value in self._identity().items():
            if found.facts[key] != value:
                raise TrainingError(
                    f"the unfinished training here has another {key}",
                    where=self.run,
                    mend="give the same data, recipe and seed to go on, or remove that folder",
                )
        self.network.load_state_dict(found.network)
        self.history, self.best = list(found.facts["history"]), dict(found.facts["best"])
        self.best_state = dict(found.best) if found.best else None
        if found.step == self.recipe.warmup_epochs:
            return None, found.step
        optimizer = self._optimizer(warm_up=found.step < self.recipe.warmup_epochs)
        parameters = dict(self.network.named_parameters())
        for name, values in found.optimizer.items():
            p = parameters[name]
            optimizer.state[p] = {
                k: v.to(p.device).reshape(p.shape).clone(memory_format=torch.preserve_format)
                if v.numel() == p.numel() and v.ndim == p.ndim
                else v
                for k, v in values.items()
            }
        return optimizer, found.step

    def _log(self) -> None:
        with guarded_writes(self.run):
            lines = [json.dumps(row, sort_keys=True) + "\n" for row in self.history]
            (self.run / "log.jsonl").write_text("".join(lines), encoding="utf-8")

    def _tell(self, step: int, number: int) -> None:
        total = (self.recipe.warmup_epochs + self.recipe.epochs) * self.steps_per_epoch
        accuracy = [r["val_accuracy"] for r in self.history if r["val_accuracy"] is not None]
        seen = f", validation vote {accuracy[-1]:.1%}" if accuracy else ""
        epochs = self.recipe.warmup_epochs + self.recipe.epochs
        done = step * self.steps_per_epoch + number + 1
        self.progress(f"training, epoch {step + 1}/{epochs}{seen}", done, total)

    def _refuse_nan(self, seen: NDArray[Any], epoch: int, number: int) -> None:
        if np.isfinite(seen).all():
            return
        names = ("loss", "metric loss", "cross-entropy", "orthogonality")
        told = ", ".join(f"{n} {v:g}" for n, v in zip(names, seen, strict=True))
        raise TrainingError(
            f"the loss is not a number in epoch {epoch}, batch {number + 1} ({told})",
            where=self.run,
            mend="train again with a smaller lr; the last good epoch is kept in this folder",
        )


def resolved_precision(precision: str, device: torch.device) -> str:
    """ "auto" made definite: "bf16" where the hardware multiplies it natively, else "fp32"."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    native: bool = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"
