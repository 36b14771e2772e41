"""Which cells of a data set an atlas has never seen: only they can measure it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellkin.atlas import Atlas
from cellkin.core.arrays import Bytes
from cellkin.core.errors import DataError, LabelError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Sample
from cellkin.core.units import IMAGE, SUBJECT, Owners, owner_of
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.outline import is_empty
from cellkin.system.runs import learned_from

PARTS = {
    "reference": "reference cells of the atlas",
    "calibration": "cells that calibrated it",
    "val": "cells that it was selected on",
}
PERSON = "cells of people that the atlas knows"
FIELD = "cells of slides or fields that the atlas knows"
TRAINED = "images that the network was trained or selected on"
TWINS = "images that are reference cells, or nearly, under another name"
DIFFERENT = "cells of classes that the atlas does not know"
UNFOUND = "pictures in which no cell is found to be shown alone"


@dataclass(frozen=True)
class HeldOut:
    """The cells of a data set that can measure an atlas.

    Attributes:
        samples: N of them. images: (N, S, S, 3) uint8, prepared.
        left_out: why -> how many cells of the data set were left out for it.
    """

    samples: tuple[Sample, ...]
    images: Bytes
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, rows: Sequence[int], reason: str) -> HeldOut:
        """Some of the cells; the others are left out for this reason."""
        why = {**self.left_out, reason: len(self) - len(rows)}
        kept = np.asarray(rows, np.int64)
        return HeldOut(tuple(self.samples[i] for i in rows), self.images[kept], why)

    def owners(self, unit: str) -> Owners:
        return Owners.of(self.samples, unit)


def held_out(atlas: Atlas, data: Dataset, *, progress: Progress = silent) -> HeldOut:
    """The cells of `data` that are no references, and calibrated, selected or trained nothing.

    A cell is known by its id, by a fingerprint of its prepared image where it was trained on, and
    by its pixels where the first weights have learned from it.
    In an atlas that was split by subject (slide, field), cells of its reference, calibration and
    selection subjects (slides, fields) are left out as well: they are no new people.

    Raises:
        DataError: no cell is left. ImageError: an image cannot be read.
        LabelError: the data set has several labels per image.
    """
    data.require_cells()
    why: Counter[str] = Counter()
    kept = []
    ids, owners = _known(atlas)
    for sample in data.samples:
        reason = ids.get(sample.id)
        if reason is None and owner_of(sample, atlas.unit) in owners:
            reason = PERSON if atlas.unit == SUBJECT else FIELD
        if reason is None and sample.label not in atlas.labels.names:
            reason = DIFFERENT
        if reason is None:
            kept.append(sample)
        else:
            why[reason] += 1
    sources, preprocessor = [s.image for s in kept], atlas.encoder.preprocessor
    images = load_prepared(sources, preprocessor, progress=progress, unfound=True)
    known = replace(data, samples=tuple(kept))
    learned = learned_from(known, images, atlas.encoder, progress=progress)
    fresh = [i for i, sample in enumerate(kept) if sample.id not in learned]
    if len(fresh) < len(kept):
        why[TRAINED] = len(kept) - len(fresh)
    if not fresh:
        raise nothing_left(data, why)
    held = HeldOut(tuple(kept[i] for i in fresh), images[fresh], why)
    shown = [i for i, image in enumerate(held.images) if not is_empty(image)]
    if preprocessor.alone and len(shown) < len(held):
        return held.part(shown, UNFOUND)
    return held


def _known(atlas: Atlas) -> tuple[dict[str, str], set[str]]:
    """Cells by id with the reason why they are not held out, and subjects (slides, fields) that are
    not new.
    """
    parts = [atlas.cells, *(part for part in atlas.held_out if part.part in PARTS)]
    ids = {id_: PARTS[part.part] for part in parts for id_ in part.ids}
    if atlas.unit == IMAGE:
        return ids, set()
    names = {name for part in parts for name in part.owners(atlas.unit).names}
    return ids, {name for name in names if name is not None}


def nothing_left(data: Dataset, why: Mapping[str, int]) -> DataError:
    """The error to raise where every cell was left out, with the reasons."""
    told = "; ".join(f"{count} {reason}" for reason, count in why.items())
    kind = LabelError if set(why) == {DIFFERENT} else DataError
    return kind(
        f"no cell of {data.name} can measure this atlas",
        where=told or "the data set is empty",
        mend="give cells that the atlas has not seen: its test part, or another data set",
    )


def spread_by_class(samples: Sequence[Sample], count: int, seed: int) -> list[int]:
    """Up to `count` positions, drawn from the seed, as evenly from the classes as they last."""
    rng = np.random.default_rng(seed)
    queues: dict[str, list[int]] = {}
    for i in rng.permutation(len(samples)).tolist():
        queues.setdefault(samples[i].label, []).append(i)
    chosen: list[int] = []
    while len(chosen) < min(count, len(samples)):
        for name in sorted(queues):
            if queues[name] and len(chosen) < count:
                chosen.append(queues[name].pop())
    return sorted(chosen)
