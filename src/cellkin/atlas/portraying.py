"""Reference cells looked at as pictures, once, when an atlas is made: which are nearly the same,
which lie at the border of their class, and what the cells of a class look like.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cellkin.atlas.atlas import Atlas
from cellkin.atlas.cells import Images
from cellkin.atlas.portrait import NOTHING, Portrait
from cellkin.core.arrays import Bools, Bytes, Ints, Singles
from cellkin.core.descriptions import MEASURES
from cellkin.core.progress import Progress, silent
from cellkin.imaging.geometry import geometry
from cellkin.learning.attributes import attribute_encoder, attribute_shares

LEAST = 20  # cells of a class from which on a percentile of it is told
MOST = 150  # cells of a class that are described: more tell no finer percentile
SMALL = 24  # pixels of the pictures that are compared
ALIKE = 0.9  # correlation of nearly equal pictures; of different cells of PBC at most 0.83
NEAR = 5  # nearest cells that a cell is compared with
TOGETHER = 32  # pictures that a network sees at once
TURNS = [(turns, flipped) for turns in range(4) for flipped in (False, True)]


def portrayed(atlas: Atlas, images: Images, *, progress: Progress = silent) -> Portrait:
    """What is kept of the reference cells of an atlas.

    Args:
        images: their prepared pictures, N times (S, S, 3) uint8.
    """
    rows = described(atlas.cells.labels)
    measures, codes, words = looks([np.asarray(images[int(i)]) for i in rows], progress)
    return Portrait(near_equal(atlas, images), border(atlas), rows, measures, codes, words)


def described(labels: Sequence[str]) -> Ints:
    """Positions of the cells that are described: evenly spread, of classes with enough cells."""
    owner = np.array(labels, dtype=object)
    chosen = []
    for name in dict.fromkeys(labels):
        rows = np.flatnonzero(owner == name)
        if len(rows) >= LEAST:
            count = min(len(rows), MOST)
            chosen.append(rows[np.linspace(0, len(rows) - 1, count).round().astype(int)])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def looks(
    images: Sequence[Bytes], progress: Progress = silent
) -> tuple[Singles, Bytes, dict[str, tuple[str, ...]]]:
    """What is measured in R pictures (S, S, 3), and the words that a network has for them: (R, 5)
    float32 of `MEASURES`, (R, A) uint8, and the words of each attribute.
    """
    measures = np.full((len(images), len(MEASURES)), NOTHING, np.float32)
    codes, words = [], {}
    for start in range(0, len(images), TOGETHER):
        some = images[start : start + TOGETHER]
        for i, image in enumerate(some, start):
            measures[i] = measured(image)
        encoder = attribute_encoder()
        shares = attribute_shares(encoder, encoder.preprocessor.prepare_many(list(some)))
        words = {name: known for name, (known, _) in shares.items()}
        codes.append(np.stack([own.argmax(axis=1) for _, own in shares.values()], axis=1))
        progress("describing the references", start + len(some), len(images))
    told = np.concatenate(codes) if codes else np.zeros((0, 0))
    return measures, told.astype(np.uint8), words


def measured(image: Bytes) -> Singles:
    """(5,) of `MEASURES` in a prepared picture; `NOTHING` where nothing was found."""
    found = geometry(image)
    area = None if found.cell_area is None else found.cell_area / float(image.shape[0] ** 2)
    values = (found.nucleus_share, area, found.cell_roundness, found.nucleus_roundness, found.lobes)
    return np.array([NOTHING if v is None else v for v in values], np.float32)


def border(atlas: Atlas) -> Bools:
    """(N,): not all of its k nearest stand on its side, its own subject, slide or field left out
    (itself alone, where too few were left).
    """
    cells, count = atlas.cells, len(atlas.cells)
    own = [found | {i} for i, found in enumerate(atlas.own(cells.owners(atlas.unit)))]
    if count - max(map(len, own)) < atlas.k:
        own = [{i} for i in range(count)]
    if count <= atlas.k:
        return np.zeros(count, bool)
    near, _ = atlas.index.nearest(atlas.scaled, atlas.k, exclude=own)
    sides = [atlas.labels.side(label) for label in cells.labels]
    return np.array([any(sides[j] != sides[i] for j in near[i]) for i in range(count)])


def near_equal(atlas: Atlas, images: Images) -> Ints:
    """(N,) a number that nearly equal pictures share, also turned and mirrored ones: those whose
    small pictures correlate, among the nearest in the atlas's own space.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(atlas.cells)
    few = min(NEAR, count - 1)
    if few < 1:
        return np.arange(count)
    near, _ = atlas.index.nearest(atlas.scaled, few, exclude=[{i} for i in range(count)])
    small = np.stack([_small(np.asarray(images[i])) for i in range(count)])
    pairs = [(i, j) for i in range(count) for j in near[i].tolist() if _alike(small[i], small[j])]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _small(image: Bytes) -> Singles:
    """(24, 24, 3), of mean 0 and length 1."""
    small = cv2.resize(image, (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean(axis=(0, 1))
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)


def _alike(one: Singles, other: Singles) -> bool:
    turned = (np.rot90(other[:, ::-1] if flipped else other, turns) for turns, flipped in TURNS)
    return max(float((one * seen).sum()) for seen in turned) >= ALIKE
