"""What an encoder is worth, frozen: `measure.py DATA ENCODER...`, a table for its card.

The neighbours of the atlas's own rule (k = 5, min-max scale) vote; no gradient. Cells that an
encoder has learned from are references at the most. "Across" asks for Chula's five types from PBC's
references alone, and is only fair to an encoder that never saw Chula. ENCODER is a folder, or
imagenet, haematology, haematology-resnet18.
"""

from __future__ import annotations

import sys
from pathlib import Path

import library
import numpy as np
import torch

from cellkin.core.arrays import Singles
from cellkin.core.numbers import percent
from cellkin.core.records import LabelSet
from cellkin.decision import MinMaxScale, nearest, vote
from cellkin.learning.attributes import attribute_shares
from cellkin.learning.encoder import Encoder
from cellkin.measures.intervals import mean_interval, unit_index
from cellkin.system.runs import open_encoder

FIVE = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
K = 5


def called(references: Singles, labels: np.ndarray, queries: Singles) -> np.ndarray:
    """What the neighbours call each query."""
    names = tuple(sorted(set(labels.tolist())))
    known = LabelSet(names, dict.fromkeys(names, "other cell"))
    scale = MinMaxScale.fit(references)
    ids = [str(i) for i in range(len(references))]
    kin, distances = nearest(scale.apply(queries), scale.apply(references), ids=ids, k=K)
    pairs = zip(kin, distances, strict=True)
    return np.array([vote(list(labels[row]), list(lengths), known).label for row, lengths in pairs])


def centred(features: Singles, place: np.ndarray) -> Singles:
    """Every place moved and scaled to mean 0 and deviation 1: no label is needed for it."""
    out = np.empty_like(features)
    for name in set(place.tolist()):
        own = features[place == name]
        out[place == name] = (own - own.mean(0)) / (own.std(0) + 1e-6)
    return out


def across(features: Singles, cells: library.Library) -> list[str]:
    """Chula's five types from PBC's references, as they are and centred by place."""
    place, label = columns(cells)
    references = np.flatnonzero((place == "pbc") & np.isin(label, FIVE))
    queries = np.flatnonzero(place == "chula")
    slides = [cells.cells[i].unit for i in queries]
    told = []
    for vectors in (features, centred(features, place)):
        right = called(vectors[references], label[references], vectors[queries]) == label[queries]
        told.append(said(right, slides))
    return told


def within(features: Singles, cells: library.Library, name: str) -> str:
    """The classes of one place: the fifth never learned from, by the other four fifths."""
    place, label = columns(cells)
    references = np.flatnonzero((place == name) & ~cells.held)
    queries = np.flatnonzero((place == name) & cells.held)
    right = called(features[references], label[references], features[queries]) == label[queries]
    return said(right, None)


def attributes(encoder: Encoder, cells: library.Library) -> list[tuple[str, float, float]]:
    """Accuracy and macro F1 of each attribute's head on cells of the held fifth: name, both."""
    from sklearn.metrics import f1_score

    rows = np.flatnonzero(cells.held & np.array(["cell_size" in c.codes for c in cells.cells]))
    found = []
    for name, (codes, shares) in attribute_shares(encoder, cells.images[rows]).items():
        truth = np.array([cells.cells[i].codes[name] for i in rows])
        called = np.array(codes)[shares.argmax(axis=1)]
        macro = float(f1_score(truth, called, average="macro", zero_division=0.0))
        found.append((name, float((truth == called).mean()), macro))
    return found


def by_subject(features: Singles, cells: library.Library) -> str:
    """C-NMC, every subject from the others'."""
    place, label = columns(cells)
    own = np.flatnonzero(place == "cnmc")
    subjects = np.array([cells.cells[i].unit for i in own])
    right = np.zeros(len(own), bool)
    for subject in sorted(set(subjects)):
        tested = subjects == subject
        references = own[~tested]
        found = called(features[references], label[references], features[own[tested]])
        right[tested] = found == label[own[tested]]
    return said(right, subjects.tolist())


def columns(cells: library.Library) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([cell.place for cell in cells.cells]),
        np.array([cell.label for cell in cells.cells]),
    )


def said(right: np.ndarray, units: list[str] | None) -> str:
    """A share with its interval, over slides or subjects where there are any."""
    unit = "image" if units is None else "subject"
    owner = np.arange(len(right)) if units is None else unit_index(units)
    low, high = mean_interval(right.astype(np.int64), owner, unit, seed=0).ends
    ends = "no interval" if low is None or high is None else f"{percent(low)} to {percent(high)}"
    return f"{percent(float(right.mean()))} ({ends}, n = {len(right)})"


def main() -> None:
    torch.set_num_threads(1)
    print("| encoder | Chula from PBC | centred by place | PBC, held fifth | C-NMC by subject |")
    print("|---|---|---|---|---|")
    for name in sys.argv[2:]:
        encoder = open_encoder(Path(name), "cpu")
        cells = library.read(Path(sys.argv[1]), encoder.preprocessor)
        features = encoder.vectors(cells.images)
        row = [
            *across(features, cells),
            within(features, cells, "pbc"),
            by_subject(features, cells),
        ]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
