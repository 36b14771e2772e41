"""What a cell looks like among the reference cells of an atlas: percentiles, never a cause."""

from __future__ import annotations

import numpy as np

from cellkin.atlas import Atlas
from cellkin.atlas.portrait import NOTHING, Portrait
from cellkin.atlas.portraying import looks
from cellkin.core.arrays import Array, Bools, Bytes
from cellkin.core.descriptions import MEASURES, Trait, Traits
from cellkin.core.records import LabelSet

NO_PORTRAIT = "this atlas was made without a look at its own cells; cellkin index adds it"
FEW = "this atlas has too few cells of a class to tell percentiles"


def traits(atlas: Atlas, image: Bytes, label: str, other: str | None) -> Traits:
    """The traits of a cell among the described cells of its class, and of another class; those
    that tell the two apart come first.

    Args:
        image: (S, S, 3) uint8, prepared. label: the voted class. other: what it is compared with.
    """
    kept, labels = atlas.portrait, atlas.labels
    if kept is None:
        return Traits((), label, other, 0, 0, NO_PORTRAIT)
    own, against = (_rows(kept, atlas, name, labels) for name in (label, other))
    counts = int(own.sum()), int(against.sum())
    if not counts[0]:
        return Traits((), label, other, *counts, FEW)
    measures, codes, words = looks([image])
    found = [
        _measured(name, float(value), kept.measures[own, i], kept.measures[against, i])
        for i, (name, value) in enumerate(zip(MEASURES, measures[0], strict=True))
        if value != NOTHING
    ]
    if words == kept.words:
        found += [
            _word(name, known, int(codes[0, i]), (kept.codes[own, i], kept.codes[against, i]))
            for i, (name, known) in enumerate(words.items())
        ]
    return Traits(tuple(sorted(found, key=_telling)), label, other, *counts)


def _rows(kept: Portrait, atlas: Atlas, name: str | None, labels: LabelSet) -> Bools:
    """Which described cells are of a class; groups of lymphoblasts are one."""
    classes = [atlas.cells.labels[row] for row in kept.rows]
    return np.array([name is not None and labels.right(one, name) for one in classes], bool)


def _measured(name: str, value: float, own: Array, other: Array) -> Trait:
    more = _share(other >= value, other), _share(own >= value, own)
    less = _share(other <= value, other), _share(own <= value, own)
    upward = more[0] is None or less[0] is None or more[0] <= less[0]
    theirs, ours = more if upward else less
    return Trait(name, value, ours, theirs, more=upward)


def _word(name: str, known: tuple[str, ...], code: int, sides: tuple[Bytes, Bytes]) -> Trait:
    own, other = (_same(codes, code) for codes in sides)
    return Trait(name, known[code], own, other, learned=True)


def _same(codes: Array, code: int) -> float | None:
    return float((codes == code).mean()) if len(codes) else None


def _share(holds: Bools, values: Array) -> float | None:
    """Among the cells in which something was measured."""
    known = values != NOTHING
    return float(holds[known].mean()) if known.any() else None


def _telling(trait: Trait) -> float:
    if trait.own is None or trait.other is None:
        return 0.0
    return -abs(trait.own - trait.other)
