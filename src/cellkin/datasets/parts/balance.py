"""Deal cells, or units of cells, into parts of equal make-up. Pure functions of ids and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Ints

TRIES = 20


@dataclass(frozen=True)
class Unit:
    """Cells that must stay together (one subject, slide or field), and their counts by class."""

    name: str
    ids: tuple[str, ...]
    counts: tuple[int, ...]


def deal_cells(
    classes: Mapping[str, Sequence[str]], parts: int, rng: np.random.Generator
) -> list[list[str]]:
    """Deal cells into `parts`, stratified: a class, and all cells, differ by at most one.

    Args:
        classes: class -> ids of its cells; the ids are sorted first, so their order is no matter.
        rng: shuffles the cells of each class.
    """
    dealt: list[list[str]] = [[] for _ in range(parts)]
    place = 0
    for name in sorted(classes):
        ids = sorted(classes[name])
        for i in rng.permutation(len(ids)):
            dealt[place % parts].append(ids[i])
            place += 1
    return dealt


def deal_units(
    units: Sequence[Unit], parts: int, rng: np.random.Generator, *, train: bool
) -> list[list[Unit]]:
    """Deal whole units into `parts`, greedily, with even class shares.

    Units are shuffled, then dealt largest first (by powers of two, so that the seed decides among
    units of like size); each goes where it leaves the shares of its classes most even, then
    where there are fewest cells. The best of up to 20 shuffles is kept; best is the least number of
    classes that could be, but are not, in every part (and in every training part).

    Args:
        train: also require that any two neighbouring parts (test and validation, in turn) leave a
            unit of every class to the others.
    """
    ordered = sorted(units, key=lambda unit: unit.name)
    counts = np.array([unit.counts for unit in ordered], dtype=np.int64)
    best: Ints | None = None
    least = -1
    for _ in range(TRIES):
        homes = _deal_once(counts, parts, rng)
        faults = _faults(counts, homes, parts, train=train)
        if best is None or faults < least:
            best, least = homes, faults
        if least == 0:
            break
    homes = best if best is not None else np.zeros(0, dtype=np.int64)
    return [[u for u, h in zip(ordered, homes, strict=True) if h == part] for part in range(parts)]


def _deal_once(counts: Ints, parts: int, rng: np.random.Generator) -> Ints:
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    sizes = counts.sum(axis=1)
    shuffled = rng.permutation(len(counts))
    coarse = np.floor(np.log2(np.maximum(sizes[shuffled], 1)))
    order = shuffled[np.argsort(-coarse, kind="stable")]
    held = np.zeros((parts, counts.shape[1]))
    cells = np.zeros(parts)
    tie = rng.permutation(parts)
    homes = np.zeros(len(counts), dtype=np.int64)
    for unit in order:
        # Adding u to part p changes the summed squares of the shares by 2 held[p].u + u.u: the
        # first term alone says which part stays most even.
        uneven = np.round(held @ shares[unit], 12)
        home = np.lexsort((tie, cells, uneven))[0]
        homes[unit] = home
        held[home] += shares[unit]
        cells[home] += sizes[unit]
    return homes


def _faults(counts: Ints, homes: Ints, parts: int, *, train: bool) -> int:
    present = np.array([(counts[homes == part] > 0).any(axis=0) for part in range(parts)])
    units_of_class = (counts > 0).sum(axis=0)
    unreached = ((units_of_class >= parts) & ~present.all(axis=0)).sum()
    empty = sum(not (homes == part).any() for part in range(parts))
    if not train:
        return int(unreached + empty)
    bare = 0
    for part in range(parts):
        rest = [p for p in range(parts) if p not in (part, (part + 1) % parts)]
        bare += int(((units_of_class > 0) & ~present[rest].any(axis=0)).sum())
    return int(unreached + empty + 100 * bare)  # a class that cannot be learned weighs most
