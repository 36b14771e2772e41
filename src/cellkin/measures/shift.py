"""Do two batches of cells come from one source? Two-sample tests, their effects, and Holm's
correction over all of them.

The test is that of the energy distance (Szekely and Rizzo, 2004),

    E = 2 mean |x - y| - mean |x - x'| - mean |y - y'|,

which is zero for equal distributions alone, with its p-value by permutation. It takes cells as
independent: cells of one smear are alike, so a small p says that these cells differ, not that their
place does. The effects beside it do not grow with the number of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from cellkin.core.arrays import Floats
from cellkin.core.errors import DecisionError
from cellkin.core.fits import Shift

PERMUTATIONS = 1999
MIDDLE = (0.025, 0.975)


def shift(name: str, before: ArrayLike, after: ArrayLike, *, seed: int = 0) -> Shift:
    """How one measure differs, not yet corrected.

    Raises:
        DecisionError: fewer than two values on one side, or one that is no number.
    """
    old, new = np.asarray(before, np.float64), np.asarray(after, np.float64)
    p = energy_test(old, new, seed=seed)
    low, high = np.quantile(old, MIDDLE)
    below, up_to = (np.searchsorted(np.sort(old), new, side) for side in ("left", "right"))
    return Shift(
        name=name,
        before=float(np.median(old)),
        after=float(np.median(new)),
        n_before=len(old),
        n_after=len(new),
        delta=float((below + up_to).mean() / len(old) - 1),
        outside=float(((new < low) | (new > high)).mean()),
        p=p,
        adjusted=p,
    )


def corrected(shifts: Sequence[Shift]) -> tuple[Shift, ...]:
    """The same with p-values adjusted over all of them (Holm, 1979)."""
    adjusted = holm([s.p for s in shifts])
    return tuple(replace(s, adjusted=p) for s, p in zip(shifts, adjusted, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in their order: the chance of one false alarm among all stays below each.

    Args:
        p_values: each in [0, 1].
    """
    order = np.argsort(p_values, kind="stable")
    found, largest = [1.0] * len(order), 0.0
    for rank, i in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        found[i] = largest
    return found


def energy_test(
    before: Floats, after: Floats, *, seed: int, permutations: int = PERMUTATIONS
) -> float:
    """p-value in (0, 1] of the energy distance between (N,) and (M,) values, by permutation.

    Raises:
        DecisionError: fewer than two cells on one side, or a value that is no number.
    """
    if min(len(before), len(after)) < 2 or not all(np.isfinite(x).all() for x in (before, after)):
        raise DecisionError(
            "two batches are compared by two cells each, and more",
            where=f"{len(before)} and {len(after)} cells",
            mend="give more cells, each with finite values",
        )
    both = np.concatenate([before, after]).astype(np.float64)
    lengths = np.abs(both[:, None] - both)
    first = np.zeros(len(lengths))
    first[: len(before)] = 1
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(first, (permutations, 1)), axis=1)
    found = _energy(lengths, np.vstack([first, shuffled]))
    as_large = int((found[1:] >= found[0] * (1 - 1e-9)).sum())
    return (1 + as_large) / (1 + permutations)


def _energy(lengths: Floats, first: Floats) -> Floats:
    """Energy distances (R,) of R ways to part N cells in two; `first` (R, N) is 1 in one part."""
    n = first.sum(axis=1)
    m = first.shape[1] - n
    within = np.einsum("rn,rn->r", first @ lengths, first)
    toward = first @ lengths.sum(axis=1)
    across = toward - within
    rest = lengths.sum() - toward - across
    return np.asarray(2 * across / (n * m) - within / n**2 - rest / m**2)
