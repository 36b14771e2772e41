"""Does what the norms of an encoder have learned carry over to a laboratory that it never saw?

References of one place, cells of another one, of the classes that both have; called by the vote of
five neighbours. Side by side: the encoder as it is; its batch norms re-estimated on the unlabelled
cells of the new place (AdaBN), the references' features as they were or re-estimated on theirs; and
each with the features of either place centred and scaled by themselves. No label of the new place
is used but to count.

    python benchmarks/norms.py ENCODER ~/PBC ~/Chula
    python benchmarks/norms.py packaged ~/PBC ~/Chula --per 200

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import numpy as np

from cellkin import datasets
from cellkin.core.arrays import Bytes, Singles
from cellkin.core.labels import LabelSet
from cellkin.core.records import Sample
from cellkin.decision import MinMaxScale, nearest, vote
from cellkin.imaging.loading import load_prepared
from cellkin.learning.encoder import CHUNK, Encoder
from cellkin.learning.untrained import settle
from cellkin.system.runs import open_encoder, packaged_encoder

K = 5


def chosen(folder: Path, classes: set[str], per: int, seed: int) -> list[Sample]:
    """At most so many cells of each class, drawn by the seed."""
    data, rng = datasets.open(folder), np.random.default_rng(seed)
    found: list[Sample] = []
    for name in sorted(classes):
        own = [s for s in data.samples if s.label == name]
        found += [own[i] for i in rng.permutation(len(own))[:per]]
    return found


def reestimated(encoder: Encoder, images: Bytes) -> Encoder:
    """The encoder with batch norms of these images (Li et al. 2016); no weight changes."""
    network = copy.deepcopy(encoder.network)
    made = Encoder(network, encoder.preprocessor, encoder.classes)
    settle(made, images[np.random.default_rng(0).permutation(len(images))])
    return made


def features(encoder: Encoder, images: Bytes) -> Singles:
    parts = [encoder.vectors(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return np.concatenate(parts)


def centred(vectors: Singles) -> Singles:
    """Each feature with mean 0 and standard deviation 1 within its place."""
    return (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)


def scores(references: Singles, known: list[str], asked: Singles, truth: list[str]) -> list[float]:
    """Accuracy of the vote, and mean recall."""
    labels = LabelSet(tuple(sorted(set(known))), dict.fromkeys(known, "other cell"))
    scale = MinMaxScale.fit(references)
    ids = [str(i) for i in range(len(known))]
    index, lengths = nearest(scale.apply(asked), scale.apply(references), ids=ids, k=K)
    called = np.array(
        [
            vote([known[i] for i in row], list(far), labels).label
            for row, far in zip(index, lengths, strict=True)
        ]
    )
    right = called == np.array(truth)
    recalls = [right[np.array(truth) == name].mean() for name in sorted(set(truth))]
    return [float(right.mean()), float(np.mean(recalls))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("encoder", help="folder of an encoder or atlas, or packaged")
    parser.add_argument("references", type=Path)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--per", type=int, default=120, help="references of each class, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    packaged = options.encoder == "packaged"
    encoder = (
        packaged_encoder(112, "cpu") if packaged else open_encoder(Path(options.encoder), "cpu")
    )
    classes = {s.label for s in datasets.open(options.references).samples} & {
        s.label for s in datasets.open(options.cells).samples
    }
    places = [
        chosen(folder, classes, per, options.seed)
        for folder, per in ((options.references, options.per), (options.cells, 10**6))
    ]
    images = [load_prepared([s.image for s in place], encoder.preprocessor) for place in places]
    known, truth = ([s.label for s in place] for place in places)
    here, there = (features(encoder, place) for place in images)
    here_new, there_new = (features(reestimated(encoder, place), place) for place in images)
    rows = {}
    for name, references, asked in (
        ("as it is", here, there),
        ("norms of the new place", here, there_new),
        ("norms of either place", here_new, there_new),
    ):
        for how, a, b in (
            ("", references, asked),
            (", centred", centred(references), centred(asked)),
        ):
            rows[name + how] = scores(a, known, b, truth)
            print(f"{name + how}: accuracy {rows[name + how][0]:.1%}, mean recall", end=" ")
            print(f"{rows[name + how][1]:.1%}", flush=True)
    print(json.dumps({"references": len(known), "cells": len(truth), "rows": rows}))


if __name__ == "__main__":
    main()
