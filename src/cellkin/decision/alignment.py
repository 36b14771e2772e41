"""Features of a new place, laid over those of the atlas: affine maps in closed form, no gradient.

Another camera and another stain move the features of every cell. Each alignment here is a map
g -> M g + t of scaled features (section 4.1), fitted on the labelled cells of the new place, so the
maps of a cell (one feature per position, whose mean is the feature) move with it, and what was
exact stays exact.

- Centred: mean and spread of each dimension are those of the atlas. The variances of n cells are
  mixed with the atlas's, which count as `PRIOR` cells.
- CORAL (Sun, Feng, Saenko, AAAI 2016): the covariance is that of the atlas. Both covariances are
  shrunk towards a multiple of the identity, as far as Ledoit and Wolf (2004) estimate it.
- Class means: the mean of each class moves onto the mean of that class in the atlas, and
  everything else as little as that allows: ridge regression of the targets on the cells, with the
  identity as its prior. Deviations from the class means count a tenth of the means themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cellkin.core.arrays import Array, Floats, Singles
from cellkin.core.errors import DecisionError
from cellkin.decision.neighbors import MinMaxScale

PRIOR = 5  # cells that the atlas's variances count as
RIDGE = 0.05  # of the mean square of the class means about their middle
WITHIN = 0.1  # weight of the deviations from the class means
SMALL = 1e-12  # an eigenvalue below it is none


@dataclass(frozen=True)
class Affine:
    """f -> M f + t; M (C, C) and t (C,) float64."""

    matrix: Floats
    shift: Floats

    def apply(self, vectors: Array) -> Floats:
        """Of vectors (M, C), each by itself: no other changes a bit of it."""
        values = np.asarray(vectors, np.float64)
        return np.array([self.matrix @ one + self.shift for one in values]).reshape(values.shape)

    def on_maps(self, maps: Array) -> Singles:
        """Of feature maps (..., C, h, w), position by position."""
        columns = np.asarray(maps, np.float64).reshape(*maps.shape[:-2], -1)
        moved = self.matrix @ columns + self.shift[:, None]
        return np.asarray(moved.reshape(maps.shape), np.float32)

    def before(self, scale: MinMaxScale) -> Affine:
        """The map of raw features that does, before scaling, what this one does after it; as
        float32 numbers, which is how it is kept. A dimension that says nothing stays as it is.
        """
        says = scale.scale > 0
        extent = np.divide(1.0, scale.scale, out=np.zeros_like(scale.scale), where=says)
        matrix = extent[:, None] * self.matrix * scale.scale
        shift = extent * (self.shift + scale.offset - self.matrix @ scale.offset)
        matrix[~says, ~says] = 1.0
        return Affine(*(part.astype(np.float32).astype(np.float64) for part in (matrix, shift)))


@dataclass(frozen=True, eq=False)
class Cloud:
    """Scaled features (N, C) of the cells of one place, and their classes.

    Raises:
        DecisionError: there is none, or not one class for each.
    """

    vectors: Floats
    labels: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.vectors) > 0:
            raise DecisionError(
                "every cell needs one class, and there must be one",
                where=f"{len(self.vectors)} cells and {len(self.labels)} classes",
                mend="give both in the same order",
            )

    @cached_property
    def mean(self) -> Floats:
        return np.asarray(self.vectors.mean(axis=0))

    @cached_property
    def means(self) -> dict[str, Floats]:
        """Class -> mean (C,)."""
        owners = np.array(self.labels, dtype=object)
        return {name: self.vectors[owners == name].mean(axis=0) for name in sorted({*self.labels})}

    @cached_property
    def spectrum(self) -> tuple[Floats, Floats, float]:
        """Axes (r, C) of the shrunk covariance, their standard deviations (r,), and that of all
        directions beside them.
        """
        from sklearn.covariance import ledoit_wolf_shrinkage

        centred, (n, C) = self.vectors - self.mean, self.vectors.shape
        shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
        _, sizes, axes = np.linalg.svd(centred / np.sqrt(n), full_matrices=False)
        ground = shrinkage * float((sizes**2).sum()) / C
        deviations = np.sqrt((1 - shrinkage) * sizes**2 + ground)
        return np.asarray(axes), np.asarray(deviations), float(np.sqrt(ground))

    @cached_property
    def root(self) -> Floats:
        """(C, C), the square root of the shrunk covariance."""
        axes, deviations, ground = self.spectrum
        return np.asarray(ground * np.eye(axes.shape[1]) + (axes.T * (deviations - ground)) @ axes)

    def part(self, rows: Sequence[int]) -> Cloud:
        """Some of the cells."""
        return Cloud(self.vectors[list(rows)], [self.labels[i] for i in rows])


Fit = Callable[[Cloud, Cloud], Affine]
"""The alignment of a new place (first) with the atlas (second)."""


def centred(new: Cloud, atlas: Cloud) -> Affine:
    """Mean and spread of each dimension are the atlas's."""
    n, known = len(new.labels), atlas.vectors.var(axis=0)
    mixed = (n * new.vectors.var(axis=0) + PRIOR * known) / (n + PRIOR)
    gain = np.sqrt(np.divide(known, mixed, out=np.ones_like(known), where=mixed > SMALL))
    return Affine(np.diag(gain), atlas.mean - gain * new.mean)


def coral(new: Cloud, atlas: Cloud) -> Affine:
    """Mean and covariance are the atlas's; of one cell, the mean alone."""
    if len(new.labels) < 2:
        return Affine(np.eye(len(new.mean)), atlas.mean - new.mean)
    axes, deviations, ground = new.spectrum
    if ground**2 <= SMALL:  # all cells alike: nothing to whiten
        return Affine(np.eye(len(new.mean)), atlas.mean - new.mean)
    matrix = atlas.root / ground + (atlas.root @ axes.T * (1 / deviations - 1 / ground)) @ axes
    return Affine(matrix, atlas.mean - matrix @ new.mean)


def class_means(new: Cloud, atlas: Cloud) -> Affine:
    """The mean of each class moves onto that of the atlas; classes weigh alike.

    With X the weighted cells of the new place about their middle and D what they lack to their
    targets, M = I + D' (X X' + lambda I)^-1 X.
    """
    names = [name for name in new.means if name in atlas.means]
    found, wanted = (np.array([cloud.means[name] for name in names]) for cloud in (new, atlas))
    middle, target = found.mean(axis=0), wanted.mean(axis=0)
    owners = [names.index(label) for label in new.labels]
    weights = np.sqrt(WITHIN / np.bincount(owners)[owners])[:, None]
    within = weights * (new.vectors - found[owners])
    X = np.concatenate([found - middle, within])
    D = np.concatenate([wanted - target - (found - middle), -within])
    products = X @ X.T
    ridge = RIDGE * np.trace(products) / len(names)
    if ridge <= SMALL:  # one class, or all cells alike: a shift says it all
        return Affine(np.eye(X.shape[1]), target - middle)
    solved = np.linalg.solve(products + ridge * np.eye(len(X)), D)
    matrix = np.eye(X.shape[1]) + solved.T @ X
    return Affine(matrix, target - matrix @ middle)
