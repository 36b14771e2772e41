"""Selection (section 5.2): the epoch that decides best on the validation part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cellkin.core.arrays import Ints
from cellkin.decision import MinMaxScale, nearest, vote
from cellkin.learning.encoder import Encoder, Views
from cellkin.learning.recipes import Recipe
from cellkin.learning.sampling import TrainingData
from cellkin.learning.weights import first_network


@dataclass(frozen=True)
class Validated:
    """Validation cells, decided: which of them rightly, and the weighted cross-entropy."""

    right: tuple[bool, ...]
    loss: float

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)


def validated(encoder: Encoder, data: TrainingData, recipe: Recipe, weights: Tensor) -> Validated:
    """The validation cells, by what will decide."""
    held_out, truth = _views(encoder, data, data.val), data.targets[data.val]
    if recipe.select_by == "head":
        called = [data.labels.names[i] for i in held_out.logits.argmax(axis=1)]
    else:
        called = _voted(encoder, data, recipe, held_out)
    right = map(data.labels.exact, called, np.array(data.labels.names)[truth])
    logits = torch.from_numpy(held_out.logits)
    loss = F.cross_entropy(logits, torch.from_numpy(truth), weight=weights)
    return Validated(tuple(map(bool, right)), float(loss))


def start_accuracy(
    data: TrainingData, recipe: Recipe, *, seed: int, device: torch.device
) -> float | None:
    """Accuracy of the neighbour vote on validation cells with the first weights, untrained: what a
    training has to beat. None from scratch, where the first weights know nothing.
    """
    if recipe.init == "scratch":
        return None
    names = data.labels.names
    network, seen = first_network(recipe, len(names), data.images, data.train, seed=seed)
    encoder = Encoder(network, seen, names, device=device)
    return validated(
        encoder, data, replace(recipe, select_by="vote"), torch.ones(len(names))
    ).accuracy


def _voted(encoder: Encoder, data: TrainingData, recipe: Recipe, held_out: Views) -> list[str]:
    """The vote's calls; references are the clean training cells, as they will be in the atlas."""
    references = _views(encoder, data, data.train)
    scale = MinMaxScale.fit(references.features)
    index, distances = nearest(
        scale.apply(held_out.features),
        scale.apply(references.features),
        ids=[data.ids[i] for i in data.train],
        k=min(recipe.k, len(data.train)),
        distance=recipe.distance,
    )
    labels = np.array(data.labels.names)[data.targets[data.train]]
    return [
        vote(list(labels[row]), list(lengths), data.labels).label
        for row, lengths in zip(index, distances, strict=True)
    ]


def _views(encoder: Encoder, data: TrainingData, positions: Ints) -> Views:
    """Features and logits of many cells; their maps are not kept."""
    parts = [
        encoder.view(data.images[chunk])
        for chunk in np.array_split(positions, max(1, len(positions) // 64))
    ]
    features = np.concatenate([part.features for part in parts])
    logits = np.concatenate([part.logits for part in parts])
    return Views(np.zeros((len(features), 0, 0, 0), np.float32), features, logits)
