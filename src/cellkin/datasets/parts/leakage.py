"""What must not lie on two sides of a split: equal files and documented duplicates.

Equal files are known where `Sample.sha256` was computed (`hashed`); documented duplicates come with
the reader of a data set. Near duplicates are no business of this file: nothing is decoded here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from cellkin.core.artifacts import file_sha256
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, ImageRef, Sample, Split
from cellkin.datasets.listing import shown
from cellkin.datasets.parts.grouping import clusters
from cellkin.imaging.series import is_shared

TWINS = "documented duplicates"
"""Key of `Sample.annotations`: images with equal values are documented as duplicates."""


def hashed(dataset: Dataset, *, progress: Progress = silent) -> Dataset:
    """The data set with the SHA-256 of every image's file, where the image is the whole file.

    A file that cannot be read gets none: reading the images will say why.
    """
    samples = []
    for done, sample in enumerate(dataset, start=1):
        samples.append(replace(sample, sha256=sample.sha256 or _sha256(sample.image)))
        progress("comparing files", done, len(dataset))
    return replace(dataset, samples=tuple(samples))


def _sha256(ref: ImageRef) -> str | None:
    if is_shared(ref):
        return None
    try:
        return file_sha256(ref.path)
    except OSError:
        return None


def twins(samples: tuple[Sample, ...]) -> dict[str, tuple[str, ...]]:
    """Ids of images that are known to show the same, by what makes them so: "equal files ...", or
    what is documented. Each has two ids or more, sorted.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.sha256 is not None and sample.image.box is None and sample.image.row is None:
            found[f"equal files ({sample.sha256[:8]})"].append(sample.id)
        if TWINS in sample.annotations:
            found[f"{TWINS} ({sample.annotations[TWINS]})"].append(sample.id)
    return {why: tuple(sorted(ids)) for why, ids in found.items() if len(ids) > 1}


def leaks(split: Split, dataset: Dataset) -> tuple[str, ...]:
    """One sentence for every set of twins that lies in more than one part; empty: none is known."""
    part_of = {id_: part for part, ids in split.parts().items() for id_ in ids}
    sentences = []
    for why, ids in twins(dataset.samples).items():
        parts = {part_of[id_] for id_ in ids if id_ in part_of}
        if len(parts) > 1:
            sentences.append(f"{why} in {' and '.join(sorted(parts))}: {shown(list(ids))}")
    return tuple(sentences)


def leaders(samples: tuple[Sample, ...]) -> Mapping[str, str]:
    """Image -> the first image it must stay with (itself, where it has no twin)."""
    joined = clusters(twins(samples).values())
    first = {id_: cluster[0] for cluster in joined for id_ in cluster}
    return {sample.id: first.get(sample.id, sample.id) for sample in samples}
