"""The cells to learn from, and the order in which an epoch sees them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from cellkin.core.arrays import Bytes, Ints
from cellkin.core.artifacts import digest
from cellkin.core.records import LabelSet


@dataclass(frozen=True)
class TrainingData:
    """Prepared cells to learn from and to select on; no test cell is among them.

    Attributes:
        images: (N, S, S, 3) uint8, prepared by the geometry of the recipe.
        ids: N ids. targets: (N,) class indices.
        train, val: positions of the two parts among the N.
        labels: the classes.
    """

    images: Bytes
    ids: tuple[str, ...]
    targets: Ints
    train: Ints
    val: Ints
    labels: LabelSet

    @property
    def identity(self) -> dict[str, str]:
        """Hashes by which a resumed run knows its data again, and can say what differs."""
        return {
            "cells": digest(self.ids),
            "labels": digest([self.targets.tolist(), self.labels.names]),
            "split": digest([self.train.tolist(), self.val.tolist()]),
            "images": digest([zlib.crc32(self.images[i]) for i in range(len(self.images))]),
        }


def epoch_order(data: TrainingData, generator: torch.Generator, *, together: int = 1) -> Ints:
    """Positions of all training cells, shuffled; every cell once.

    Args:
        together: cells of a class follow each other in groups of this many (the last group of a
            class may be smaller), so that in a batch also a rare class has pairs to be drawn
            together by the triplet loss.
    """
    shuffled = torch.randperm(len(data.train), generator=generator).numpy()
    order = np.asarray(data.train[shuffled])
    if together == 1:
        return order
    groups = []
    for label in range(len(data.labels.names)):
        cells = order[data.targets[order] == label]
        groups += [cells[start : start + together] for start in range(0, len(cells), together)]
    dealt = torch.randperm(len(groups), generator=generator).tolist()
    return np.concatenate([groups[number] for number in dealt])


def batches(order: Ints, size: int, *, least: int = 2) -> Iterator[Ints]:
    """Batches of `size`; a last one of fewer than `least` cells joins the one before."""
    starts = list(range(0, len(order), size))
    if 0 < len(order) % size < least and len(starts) > 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield order[start:end]
