"""Is this cell of any kind that is known? Judged in a space that was not trained on these kinds.

In a space whose directions are weighed by the scatter within the known classes (Fisher's linear
discriminant, its covariance shrunk towards the sphere), the oddness of a cell is one less the
cosine of the angle between it and the nearest class mean: an unknown kind points to no class mean,
and how far out it lies says little. Measured against distances to the k-th kin, Mahalanobis
distances (Ren et al., 2021: also relative to the background) and densities: docs/decisions/042.

Held-out calibration cells say how odd a known cell gets. They are grouped as the cell in question
is: by the mean that each of them is nearest to (Mondrian conformal prediction; Vovk et al., 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Array, Floats, Ints
from cellkin.core.errors import DecisionError
from cellkin.decision.conformal import ALL, Conformal, units_needed

SHRINKAGE = 0.1  # of the covariance, as a share of its mean variance
GROUPED = 3  # times the units that a promise needs, from which on a class is judged by itself


@dataclass(frozen=True, eq=False)
class Kinds:
    """The known kinds in such a space of D dimensions.

    Attributes:
        classes: K names. middle, size: (D,) mean and standard deviation of the known cells.
        root: (D, D), lower Cholesky factor of the scatter within classes.
        means: (K, D) directions of the class means in the weighed space, of length 1.
    """

    classes: tuple[str, ...]
    middle: Floats
    size: Floats
    root: Floats
    means: Floats

    @classmethod
    def fit(cls, vectors: Array, labels: Sequence[str]) -> Kinds:
        """From (N, D) known cells and their classes.

        Raises:
            DecisionError: fewer than two classes: nothing then tells a direction.
        """
        classes = tuple(dict.fromkeys(labels))
        if len(classes) < 2:
            raise DecisionError(
                "an unknown kind is told from two known classes or more",
                where=f"{len(classes)} classes among {len(labels)} cells",
                mend="give cells of more classes",
            )
        known = np.asarray(vectors, np.float64)
        middle, size = known.mean(axis=0), known.std(axis=0) + 1e-6
        scaled = (known - middle) / size
        owner = np.array([classes.index(label) for label in labels])
        means = np.stack([scaled[owner == i].mean(axis=0) for i in range(len(classes))])
        within = scaled - means[owner]
        scatter = within.T @ within / len(known)
        ridge = SHRINKAGE * max(float(np.trace(scatter)) / len(scatter), 1e-6)
        root = np.linalg.cholesky(scatter + ridge * np.eye(len(scatter)))
        return cls(classes, middle, size, root, _directions(root, means))

    def oddness(self, vectors: Array) -> tuple[Floats, Ints]:
        """(M,) oddness in [0, 2] of cells (M, D), and the position of the class each is nearest to.

        No cell's answer depends on the others.
        """
        scaled = (np.asarray(vectors, np.float64) - self.middle) / self.size
        found = np.zeros((len(scaled), len(self.classes)))
        for i, row in enumerate(scaled):
            found[i] = np.maximum(1 - self.means @ _directions(self.root, row[None])[0], 0)
        near = found.argmin(axis=1)
        return found[np.arange(len(near)), near], near


def _directions(root: Floats, vectors: Floats) -> Floats:
    """(M, D) vectors in the weighed space, of length 1."""
    from scipy.linalg import solve_triangular  # takes long to import

    weighed = solve_triangular(root, vectors.T, lower=True).T
    lengths = np.linalg.norm(weighed, axis=1, keepdims=True)
    return np.asarray(weighed / np.maximum(lengths, 1e-12))


def p_value(scores: Conformal, near: str, oddness: float, coverage: float) -> float | None:
    """Share of the calibration units (with the query's own) that are as odd as a cell, or odder:
    of those nearest to the same class where these are many, else of all.

    With hardly more units than a promise needs, the oddest one alone would draw the line.

    Returns:
        None where all together are too few.
    """
    needed, counts = units_needed(coverage), scores.counts()
    if counts.get(near, 0) >= GROUPED * needed:
        return scores.p_value(near, oddness)
    return scores.p_value(ALL, oddness) if sum(counts.values()) >= needed else None
