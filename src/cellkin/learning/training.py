"""Warm-up and fine-tuning (sections 3.3 and 5.2), resumable after every epoch.

Randomness of epoch e is drawn from (seed, e) alone, so a run that was stopped and resumed ends
with the same weights as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellkin.core.arrays import Ints
from cellkin.core.artifacts import digest
from cellkin.core.errors import RecipeError
from cellkin.core.numbers import percent
from cellkin.core.progress import Progress, silent
from cellkin.learning import checkpoints, optimizers
from cellkin.learning.augmentation import augmented, normalized
from cellkin.learning.encoder import Encoder
from cellkin.learning.grounds import Grounds
from cellkin.learning.keeping import Kept
from cellkin.learning.losses import FineTuningLoss, LossParts, batch_hard, class_weights
from cellkin.learning.memory import peak_memory
from cellkin.learning.networks import Network
from cellkin.learning.recipes import Recipe
from cellkin.learning.sampling import TrainingData, batches, epoch_order
from cellkin.learning.scalars import Scalars
from cellkin.learning.scale import Processes, refuse_unshared, synchronized
from cellkin.learning.schedule import learning_rate
from cellkin.learning.selection import validated
from cellkin.learning.watch import LossWatch
from cellkin.learning.weights import first_network

__all__ = ["Place", "Trained", "TrainingData", "resolved_precision", "train_encoder"]


@dataclass(frozen=True)
class Place:
    """Where a training runs.

    Attributes:
        device: "cpu" or a GPU. devices: processes on each machine, one device each.
        nodes: machines; see `cellkin.learning.scale.Processes`.
        tensorboard: folder for TensorBoard's event files, None for none.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    devices: int = 1
    nodes: int = 1
    tensorboard: Path | None = None


@dataclass(frozen=True)
class Trained:
    """A trained encoder and how it got there.

    Attributes:
        history: one row per epoch. best: the selected one.
        first: whether this process is the one that goes on to write (always, but for companions).
        memory: see `cellkin.learning.memory.peak_memory`.
    """

    encoder: Encoder
    history: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Any]
    first: bool = True
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def selected_epoch(self) -> int:
        """Of fine-tuning; 0 where the first weights were kept."""
        return 0 if self.best["phase"] == "warm-up" else int(self.best["epoch"])


def train_encoder(
    data: TrainingData,
    recipe: Recipe,
    *,
    seed: int,
    run: Path,
    place: Place | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train by a recipe; goes on from the newest checkpoint where `run` holds one.

    Args:
        run: folder for checkpoints and the log (`log.jsonl`); made if missing.

    Returns:
        the encoder of the epoch with the best accuracy of the neighbour vote on the validation
        part (ties: lower loss), in evaluation mode; that of the first weights where the recipe
        keeps them and no epoch is better beyond chance.

    Raises:
        TrainingError: a class without training cells, a loss that is not a number, batch norms that
            several processes cannot share, or a checkpoint of another recipe, seed or data.
        OutputError: a checkpoint cannot be written; the one before it stays.
    """
    started = _Run(data, recipe, seed=seed, run=run, place=place or Place(), progress=progress)
    try:
        return started.finish()
    except BaseException:
        started.processes.stop()
        raise


class _Run:
    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        *,
        seed: int,
        run: Path,
        place: Place,
        progress: Progress,
    ) -> None:
        recipe.require_task("fine-tuning", verb="pretrain")
        self.data, self.seed, self.run, self.progress = data, seed, run, progress
        self.place = place
        precision = resolved_precision(recipe.precision, place.device)
        recipe = self.recipe = recipe.with_changes(precision=precision)
        self.bf16 = precision == "bf16"
        self.weights = class_weights(data.targets[data.train].tolist(), data.labels.names)
        network, preprocessor = first_network(
            recipe, len(data.labels.names), data.images, data.train, seed=seed
        )
        self.found = self._found()
        self.processes = self._processes(network)
        self.encoder = Encoder(
            synchronized(network, self.processes, frozen=recipe.frozen_batch_norm),
            preprocessor,
            data.labels.names,
            recipe=recipe.to_json(),
            device=self.processes.device,
        )
        self.frozen = self.network.early_stages(recipe.frozen_stages)
        self.kept = Kept(self.network)
        self.grounds = Grounds(data.images, data.train, recipe.swap_grounds, progress=progress)
        self.steps_per_epoch = len(self._batches(np.arange(len(data.train))))

    def _found(self) -> checkpoints.Checkpoint | None:
        """The checkpoint to go on from, once it is known to be of this very training."""
        found = checkpoints.load_latest(self.run / "checkpoints")
        if found is not None:
            checkpoints.refuse_other(found.facts, self._identity(), where=self.run)
        return found

    def _processes(self, network: Network) -> Processes:
        """All processes, started only when nothing else is left to refuse."""
        place, count = self.place, self.place.devices * self.place.nodes
        refuse_unshared(network, place.device, count, frozen=self.recipe.frozen_batch_norm)
        if count > self.recipe.batch:
            raise RecipeError(
                f"a batch of {self.recipe.batch} cells cannot be shared by {count} processes",
                where="recipe field batch",
                mend="enlarge the batch, or train with fewer processes",
            )
        return Processes.launch(place.device, devices=place.devices, nodes=place.nodes)

    @property
    def network(self) -> Network:
        return self.encoder.network

    def _batches(self, order: Ints) -> list[Ints]:
        return list(batches(order, self.recipe.batch, least=max(2, self.processes.count)))

    def finish(self) -> Trained:
        total = self.recipe.warmup_epochs + self.recipe.epochs
        optimizer, done = self._restore()
        scalars = self._scalars(done)
        for step in range(done, total):
            if optimizer is None or step == self.recipe.warmup_epochs:
                optimizer = self._optimizer(warm_up=step < self.recipe.warmup_epochs)
            row = self._epoch(step, optimizer)
            self._validate(row, last=step == total - 1)
            self.kept.history.append(row)
            if self.processes.first:
                self.kept.save(self.run, step + 1, optimizer, self._identity())
            if scalars:
                scalars.add(step + 1, row)
        if scalars:
            scalars.close()
        self.kept.finish(self.run)
        return Trained(
            self.encoder,
            tuple(self.kept.history),
            dict(self.kept.best),
            self.processes.first,
            peak_memory(self.processes.device),
        )

    # one epoch ------------------------------------------------------------------------------

    def _epoch(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        warm_up = step < self.recipe.warmup_epochs
        epoch = step + 1 if warm_up else step + 1 - self.recipe.warmup_epochs
        generator = torch.Generator().manual_seed(int(digest([self.seed, step])[:15], 16))
        order = self._batches(epoch_order(self.data, generator, together=self.recipe.together))
        loss_of = self._loss(warm_up)
        self._set_mode(warm_up)
        watch, started = LossWatch(step + 1, self.run), time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.initial_seed()))
            for number, batch in enumerate(order):
                rate = self._rate(epoch, number, warm_up)
                first = number // self.recipe.accumulate * self.recipe.accumulate
                group = min(self.recipe.accumulate, len(order) - first)
                parts = self._backward(batch, loss_of, generator, share=1 / group)
                watch.add(parts, [self.data.ids[i] for i in batch], rate)
                if number == first + group - 1:
                    self._learn(optimizer, rate)
                self._tell(step, number)
        return self._row(watch, warm_up, epoch, rate) | {
            "seconds": round(time.perf_counter() - started, 3)
        }

    def _row(self, watch: LossWatch, warm_up: bool, epoch: int, rate: float) -> dict[str, Any]:
        loss, metric, cross_entropy, orthogonal = watch.means()
        row = {
            "phase": "warm-up" if warm_up else "fine-tuning",
            "epoch": epoch,
            "loss": loss,
            "metric_loss": metric,
            "cross_entropy": cross_entropy,
            "orthogonality": orthogonal,
            "lr": rate,
            "val_accuracy": None,
            "val_loss": None,
            "selected": False,
        }
        if (batches_of := self.recipe.accumulate) > 1:
            row["triplets"] = (
                f"of each batch of {self.recipe.batch}; {batches_of} batches to a step"
            )
        if self.recipe.swap_grounds:
            row["without_outline"] = self.grounds.without
        return row

    def _backward(
        self,
        batch: Ints,
        loss_of: FineTuningLoss,
        generator: torch.Generator,
        *,
        share: float,
    ) -> LossParts:
        """The losses of a batch; `share` of their gradient is added to what is there."""
        device = self.processes.device
        x = self._augmented(batch, generator)
        y = torch.from_numpy(self.data.targets[batch]).to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16):
            maps = self.network.feature_map(x)
        features = self.processes.gather(self.network.pool(maps), len(batch))
        parts = loss_of(features, self.network.classify(features), y)
        (parts.total * share).backward()  # type: ignore[no-untyped-call]
        return parts

    def _learn(self, optimizer: torch.optim.Optimizer, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        self.processes.average(self.network.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _augmented(self, batch: Ints, generator: torch.Generator) -> Tensor:
        """This process's part of a batch, (B, 3, S, S) float32: turned as uint8, then z-scored."""
        part = self.processes.part(len(batch))
        images = torch.from_numpy(self.grounds.pictures(batch, part, generator))
        if self.processes.device.type == "cuda":
            images = images.pin_memory().to(self.processes.device, non_blocking=True)
        among, cells = (len(batch), part), images.permute(0, 3, 1, 2)
        varied = augmented(cells, self.recipe, generator, among=among)
        return normalized(varied, self.encoder.preprocessor)

    def _set_mode(self, warm_up: bool) -> None:
        """Training mode, but for what is frozen: its batch norms keep their statistics."""
        self.network.train(not warm_up)
        self.network.requires_grad_(not warm_up)
        self.network.head.requires_grad_(True)
        self.network.freeze(self.frozen, batch_norms=self.recipe.frozen_batch_norm)

    def _loss(self, warm_up: bool) -> FineTuningLoss:
        recipe = self.recipe
        if warm_up:
            return FineTuningLoss(self.network.body, None, margin=1.0, metric=0.0, lam=0.0)
        weights = self.weights.to(self.processes.device) if recipe.class_weighted else None
        loss = FineTuningLoss(
            self.network.body,
            weights,
            margin=recipe.margin,
            metric=recipe.metric,
            lam=recipe.orthogonality,
            covers=recipe.orthogonal,
        )
        loss.bf16 = self.bf16
        loss.miner = batch_hard() if recipe.mining == "batch-hard" else None
        return loss

    def _rate(self, epoch: int, number: int, warm_up: bool) -> float:
        recipe = self.recipe
        if warm_up:
            return recipe.warmup_lr
        return learning_rate(recipe, epoch, number, self.steps_per_epoch)

    def _optimizer(self, warm_up: bool) -> torch.optim.Optimizer:
        self._set_mode(warm_up)
        recipe = self.recipe.with_changes(optimizer="sgd") if warm_up else self.recipe
        return optimizers.build(recipe, self._learned())

    def _learned(self) -> Iterable[nn.Parameter]:
        return (p for p in self.network.parameters() if p.requires_grad)

    # selection ------------------------------------------------------------------------------

    def _validate(self, row: dict[str, Any], *, last: bool) -> None:
        """Measure what decides on the validation part; keep the weights if they are the best."""
        epoch, recipe = row["epoch"], self.recipe
        due = epoch >= recipe.validate_from and epoch % recipe.validate_every == 0
        start = row["phase"] == "warm-up"
        begins = start and recipe.keep_start and epoch == recipe.warmup_epochs
        if not begins and (start or not (due or last)):
            return
        measured = None
        if self.processes.first:
            measured = validated(self.encoder, self.data, recipe, self.weights)
        measured = self.processes.agree(measured)
        row["val_accuracy"], row["val_loss"] = measured.accuracy, measured.loss
        if begins:
            self.kept.begin(row, measured.right)
        elif self.kept.beats_start(measured.right):
            self.kept.offer(row, "val_accuracy")

    # keeping and telling --------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {"recipe": self.recipe.to_json(), "seed": self.seed, "data": self.data.identity}

    def _restore(self) -> tuple[torch.optim.Optimizer | None, int]:
        if self.processes.first:
            checkpoints.sweep(self.run / "checkpoints")
        found, self.found = self.found, None
        if found is None:
            return None, 0
        self.kept.restore(found)
        if found.step == self.recipe.warmup_epochs:
            return None, found.step
        optimizer = self._optimizer(warm_up=found.step < self.recipe.warmup_epochs)
        optimizers.restore(optimizer, self.network, found.optimizer)
        return optimizer, found.step

    def _scalars(self, done: int) -> Scalars | None:
        if self.place.tensorboard is None or not self.processes.first:
            return None
        return Scalars(self.place.tensorboard, done=done)

    def _tell(self, step: int, number: int) -> None:
        total = (self.recipe.warmup_epochs + self.recipe.epochs) * self.steps_per_epoch
        accuracy = [r["val_accuracy"] for r in self.kept.history if r["val_accuracy"] is not None]
        measured = f", validation {self.recipe.select_by}"
        seen = f"{measured} {percent(accuracy[-1])}" if accuracy else ""
        epochs = self.recipe.warmup_epochs + self.recipe.epochs
        done = step * self.steps_per_epoch + number + 1
        self.progress(f"training, epoch {step + 1}/{epochs}{seen}", done, total)


def resolved_precision(precision: str, device: torch.device) -> str:
    """ "auto" made definite: "bf16" where the hardware multiplies it natively, else "fp32"."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    native: bool = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"
