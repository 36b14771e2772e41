"""Multitask pretraining (section 3.1), resumable after every epoch.

The parallel heads of the paper's Fig. 3 all read the one pooled feature, so they are kept as one
linear layer whose rows are the codes of the levels, one level below the other.
Randomness of epoch e is drawn from (seed, e) alone, as in fine-tuning.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellkin.core.arrays import Array, Bytes, Floats, Ints
from cellkin.core.artifacts import digest
from cellkin.core.errors import TrainingError
from cellkin.core.numbers import percent
from cellkin.core.progress import Progress, silent
from cellkin.learning import checkpoints, optimizers
from cellkin.learning.augmentation import augmented
from cellkin.learning.encoder import Encoder
from cellkin.learning.grounds import Grounds
from cellkin.learning.keeping import Kept
from cellkin.learning.multitask import (
    Level,
    PretrainingLoss,
    PretrainingParts,
    code_weights,
    level_scores,
)
from cellkin.learning.networks import Network
from cellkin.learning.recipes import PRETRAINING, Recipe
from cellkin.learning.sampling import batches
from cellkin.learning.schedule import learning_rate
from cellkin.learning.training import Trained, resolved_precision
from cellkin.learning.watch import kept_after
from cellkin.learning.weights import first_network

VALIDATED = 64  # images looked at in one go when the validation part is measured


@dataclass(frozen=True)
class TaggedData:
    """Prepared images with any number of labels on any number of levels.

    Attributes:
        images: (N, S, S, 3) uint8, prepared by the geometry of the recipe.
        ids: N ids. targets: (N, C) of 0 and 1, all levels' codes beside each other; `UNKNOWN` for
            all codes of a level that nobody has judged on an image.
        levels: the codes of each level, C in all.
        train, val: positions of the two parts among the N.
        names: of the levels, where they have any.
        kinds: of each level; by default all hold any number of codes and weigh alike.
        chances: (N,) relative chance of a training image to be drawn, so that places and classes
            weigh alike; by default an epoch sees each once.
    """

    images: Bytes
    ids: tuple[str, ...]
    targets: Bytes
    levels: tuple[tuple[str, ...], ...]
    train: Ints
    val: Ints
    names: tuple[str, ...] = ()
    kinds: tuple[Level, ...] = ()
    chances: Floats | None = None

    @property
    def id(self) -> str:
        """Hash of ids, labels and parts: a run is only resumed on the same data."""
        parts = [self.train.tolist(), self.val.tolist()]
        more = [] if self.chances is None else [self.chances.tolist()]
        kinds = [[k.single, k.importance] for k in self.kinds]
        known = [self.ids, self.targets.tolist(), self.levels, parts]
        return digest([*known, kinds, *more] if kinds or more else known)

    def order(self, generator: torch.Generator) -> Ints:
        """Positions of the images of one epoch, as many as the training part has."""
        n = len(self.train)
        if self.chances is None:
            return np.asarray(self.train[torch.randperm(n, generator=generator).numpy()])
        chances = torch.from_numpy(np.asarray(self.chances[self.train], np.float64))
        drawn = torch.multinomial(chances, n, replacement=True, generator=generator)
        return np.asarray(self.train[drawn.numpy()])

    @property
    def head_names(self) -> tuple[str, ...]:
        """A name for every row of the head; the same code may stand on several levels."""
        if len(self.levels) == 1:
            return self.levels[0]
        return tuple(f"level {i}: {code}" for i, v in enumerate(self.levels, 1) for code in v)


def pretrain_encoder(
    data: TaggedData,
    recipe: Recipe,
    *,
    seed: int,
    run: Path,
    device: torch.device | None = None,
    progress: Progress = silent,
) -> Trained:
    """Pretrain by a recipe; goes on from the newest checkpoint where `run` holds one.

    Args:
        run: folder for checkpoints and the log (`log.jsonl`); made if missing.

    Returns:
        the encoder of the epoch with the best mean of the levels' mAP on the validation part
        (ties: lower loss), in evaluation mode; its `heads` name the codes of each level.

    Raises:
        RecipeError: a recipe for fine-tuning, or an orthogonality that covers nothing.
        TrainingError: a loss that is not a number, a validation part that carries no code, or a
            checkpoint of another recipe, seed or data.
    """
    recipe.require_task(PRETRAINING, verb="train")
    return _Pretraining(data, recipe, seed, run, device or torch.device("cpu"), progress).finish()


class _Pretraining:
    def __init__(
        self,
        data: TaggedData,
        recipe: Recipe,
        seed: int,
        run: Path,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.data, self.seed, self.run, self.progress = data, seed, run, progress
        self.device = device
        precision = resolved_precision(recipe.precision, device)
        recipe = self.recipe = recipe.with_changes(precision=precision)
        self.bf16 = precision == "bf16"
        self.encoder = self._new_encoder()
        self.frozen = self.network.early_stages(recipe.frozen_stages)
        self.loss_of = self._new_loss()
        self.kept = Kept(self.network)
        self.grounds = Grounds(data.images, data.train, recipe.swap_grounds, progress=progress)
        self.steps = len(list(batches(np.arange(len(data.train)), recipe.batch)))

    def _new_encoder(self) -> Encoder:
        data, recipe = self.data, self.recipe
        network, preprocessor = first_network(
            recipe, data.targets.shape[1], data.images, data.train, seed=self.seed
        )
        plain = recipe.to_json()
        encoder = Encoder(network, preprocessor, data.head_names, recipe=plain, device=self.device)
        encoder.heads, encoder.tasks = data.levels, data.names
        return encoder

    def _new_loss(self) -> PretrainingLoss:
        weights = code_weights(self.data.targets[self.data.train]).to(self.device)
        loss = PretrainingLoss(
            self.network.body,
            self.data.kinds or [Level(len(codes)) for codes in self.data.levels],
            weights if self.recipe.class_weighted else None,
            lam=self.recipe.orthogonality,
            covers=self.recipe.orthogonal,
            positive_only=self.recipe.positive_only,
        )
        loss.bf16 = self.bf16
        return loss

    @property
    def network(self) -> Network:
        return self.encoder.network

    def finish(self) -> Trained:
        self._set_mode()
        learned = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = optimizers.build(self.recipe, learned)
        for step in range(self._restore(optimizer), self.recipe.epochs):
            row = self._epoch(step, optimizer)
            self._validate(row, last=step == self.recipe.epochs - 1)
            self.kept.history.append(row)
            self.kept.save(self.run, step + 1, optimizer, self._identity())
        self.kept.finish(self.run)
        return Trained(self.encoder, tuple(self.kept.history), dict(self.kept.best))

    # one epoch ------------------------------------------------------------------------------

    def _epoch(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(int(digest([self.seed, step])[:15], 16))
        order = self.data.order(generator)
        self._set_mode()
        sums, started = np.zeros(2 + len(self.data.levels)), time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.initial_seed()))
            for number, batch in enumerate(batches(order, self.recipe.batch)):
                rate = learning_rate(self.recipe, step + 1, number, self.steps)
                parts = self._step(batch, optimizer, rate, generator)
                values = [parts.total, parts.orthogonality, *parts.levels]
                seen = np.array([float(v.detach()) for v in values])
                self._refuse_nan(seen, step + 1, number)
                sums += seen * len(batch)
                self._tell(step, number)
        means = (sums / len(order)).tolist()
        return {
            "phase": PRETRAINING,
            "epoch": step + 1,
            "loss": means[0],
            "orthogonality": means[1],
            "level_losses": means[2:],
            "lr": rate,
            "seconds": round(time.perf_counter() - started, 3),
            "val_loss": None,
            "val_map": None,
            "levels": [],
            "selected": False,
            **({"without_outline": self.grounds.without} if self.recipe.swap_grounds else {}),
        }

    def _step(
        self,
        batch: Ints,
        optimizer: torch.optim.Optimizer,
        rate: float,
        generator: torch.Generator,
    ) -> PretrainingParts:
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = self._augmented(batch, generator)
        y = torch.from_numpy(self.data.targets[batch]).float().to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            maps = self.network.feature_map(x)
        parts = self.loss_of(self.network.classify(self.network.pool(maps)), y)
        optimizer.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return parts

    def _augmented(self, batch: Ints, generator: torch.Generator) -> Tensor:
        """(B, 3, S, S) float32: turned and recoloured as uint8, then z-scored."""
        pictures = self.grounds.pictures(batch, slice(None), generator)
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        varied = augmented(images, self.recipe, generator)
        pixels = varied.permute(0, 2, 3, 1).contiguous().numpy()
        x = torch.from_numpy(self.encoder.preprocessor.normalize(pixels))
        return x.to(self.device, memory_format=torch.channels_last)

    def _set_mode(self) -> None:
        """Training mode, but for what is frozen: its batch norms keep their statistics."""
        self.network.train()
        self.network.freeze(self.frozen, batch_norms=self.recipe.frozen_batch_norm)

    # selection ------------------------------------------------------------------------------

    def _validate(self, row: dict[str, Any], *, last: bool) -> None:
        """Measure every level on the validation part; keep the weights if they are the best."""
        epoch, recipe = row["epoch"], self.recipe
        if not last and (epoch < recipe.validate_from or epoch % recipe.validate_every):
            return
        row |= self._measured()
        self.kept.offer(row, "val_map")

    def _measured(self) -> dict[str, Any]:
        data = self.data
        chunks = np.array_split(data.val, -(-len(data.val) // VALIDATED))
        logits = np.concatenate([self.encoder.view(data.images[c]).logits for c in chunks])
        targets = data.targets[data.val]
        with torch.no_grad():
            loss = self.loss_of(
                torch.from_numpy(logits).to(self.device),
                torch.from_numpy(targets).float().to(self.device),
            )
        ends = np.cumsum([len(codes) for codes in data.levels])[:-1]
        pairs = zip(np.split(logits, ends, 1), np.split(targets, ends, 1), strict=True)
        levels = [level_scores(x, y) for x, y in pairs]
        known = [level["map"] for level in levels if level["map"] is not None]
        if not known:
            raise TrainingError(
                "no code could be scored: every one is on all validation images or on none",
                where="the validation part",
                mend="pretrain on more images, or with another seed",
            )
        return {"val_loss": float(loss.total), "val_map": float(np.mean(known)), "levels": levels}

    # keeping and telling --------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {"recipe": self.recipe.to_json(), "seed": self.seed, "data": self.data.id}

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        """Go back to the newest checkpoint; the number of epochs that are done."""
        checkpoints.sweep(self.run / "checkpoints")
        found = checkpoints.load_latest(self.run / "checkpoints")
        if found is None:
            return 0
        checkpoints.refuse_other(found.facts, self._identity(), where=self.run)
        self.kept.restore(found)
        optimizers.restore(optimizer, self.network, found.optimizer)
        return found.step

    def _tell(self, step: int, number: int) -> None:
        measured = [row["val_map"] for row in self.kept.history if row["val_map"] is not None]
        seen = f", validation mAP {percent(measured[-1])}" if measured else ""
        self.progress(
            f"pretraining, epoch {step + 1}/{self.recipe.epochs}{seen}",
            step * self.steps + number + 1,
            self.recipe.epochs * self.steps,
        )

    def _refuse_nan(self, seen: Array, epoch: int, number: int) -> None:
        if np.isfinite(seen).all():
            return
        names = ["loss", "orthogonality"]
        names += [f"level {i}" for i in range(1, len(self.data.levels) + 1)]
        told = ", ".join(f"{n} {v:g}" for n, v in zip(names, seen, strict=True))
        raise TrainingError(
            f"the loss is not a number in epoch {epoch}, batch {number + 1} ({told})",
            where=self.run,
            mend=f"pretrain again with a smaller lr; {kept_after(epoch - 1)}",
        )
