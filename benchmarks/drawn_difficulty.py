"""How hard drawn smears are: simple looks by nearest neighbours, and the default training.

Draws the layout `folders`, splits it by subject as `cellkin train --seed 0` does, and asks of each
lymphocyte and lymphoblast in the test part which of the two it is:

    histogram_knn   5 nearest by colour histogram (6 x 6 x 6 bins, Hellinger distance)
    pixel_knn       5 nearest by raw pixels (32 x 32, Euclidean)
    training        the decisions of the atlas (with `--train`; some minutes)

The references of the neighbours are the split's training cells. `..._all` repeats the first two
over every cell of the data set, none of its own subject among its references: the same question,
less left to chance. `majority` is the share of the larger class. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path

import numpy as np

from cellkin import datasets
from cellkin.core.arrays import Bools, Bytes, Floats
from cellkin.core.records import Split
from cellkin.drawing.drawn import draw
from cellkin.imaging.decode import decode

K = 5
KINDS = ("lymphocyte", "lymphoblast")


def histogram(rgb: Bytes) -> Floats:
    counts, _ = np.histogramdd(rgb.reshape(-1, 3), bins=(6, 6, 6), range=[(0, 256)] * 3)
    return np.sqrt(counts.ravel() / counts.sum())


def thumbnail(rgb: Bytes) -> Floats:
    step = rgb.shape[0] // 32
    cut = rgb[: 32 * step, : 32 * step].reshape(32, step, 32, step, 3)
    return cut.mean(axis=(1, 3)).ravel() / 255


def accuracy(vectors: Floats, blast: Bools, allowed: Bools) -> float:
    """Share of the rows of `allowed` (queries x cells) with any reference that are right."""
    square = (vectors**2).sum(axis=1)
    distances = square[:, None] + square - 2 * vectors @ vectors.T
    nearest = np.argsort(np.where(allowed, distances, np.inf), axis=1)[:, :K]
    right = (blast[nearest].mean(axis=1) > 0.5) == blast
    return float(right[allowed.any(axis=1)].mean())


def baselines(folder: Path, rows: list[dict[str, str]], split: Split) -> dict[str, float]:
    images = [decode(folder / row["file"]) for row in rows]
    blast = np.array([row["kind"] == "lymphoblast" for row in rows])
    subject = np.array([row["subject"] for row in rows])
    train, test = (
        np.array([row["file"] in set(part) for row in rows]) for part in (split.train, split.test)
    )
    others = subject[:, None] != subject
    found = {}
    for name, describe in (("histogram_knn", histogram), ("pixel_knn", thumbnail)):
        vectors = np.stack([describe(image) for image in images])
        found[name] = accuracy(vectors, blast, test[:, None] & train)
        found[f"{name}_all"] = accuracy(vectors, blast, others)
    share = float(blast[test].mean())
    return {**found, "majority": max(share, 1 - share), "tested": int(test.sum())}


def trained(folder: Path, rows: list[dict[str, str]], seed: int) -> dict[str, float]:
    from cellkin.system import TrainOptions, run_folder, train

    atlas = folder.parent / "atlas"
    if not (atlas / "atlas.json").is_file():
        options = TrainOptions(resume=run_folder(atlas).is_dir())
        train(datasets.open(folder), "quick", seed=seed, out=atlas, options=options)
    return read_predictions(atlas, rows)


def read_predictions(atlas: Path, rows: list[dict[str, str]]) -> dict[str, float]:
    predictions = json.loads((atlas / "predictions.json").read_text(encoding="utf-8"))
    asked = {row["file"]: row["kind"] for row in rows}
    right = [
        (p["clinical"] == "lymphoblast") == (asked[p["image"]] == "lymphoblast")
        for p in predictions
        if p["image"] in asked
    ]
    return {
        "training": float(np.mean(right)),
        "training_right": int(np.sum(right)),
        "training_all_classes": float(np.mean([p["label"] == p["truth"] for p in predictions])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of drawing, split and training")
    parser.add_argument("--train", action="store_true", help="also train by the recipe quick")
    parser.add_argument("--keep", type=Path, help="folder for cells and atlas, used again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.keep or Path(name)) / "cells"
        if not folder.is_dir():
            draw(folder, cells=options.cells, subjects=options.subjects, seed=options.seed)
        with (folder / "masks" / "cells.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["kind"] in KINDS]
        split = datasets.single(datasets.open(folder), seed=options.seed)
        result = baselines(folder, rows, split)
        if options.train:
            result |= trained(folder, rows, options.seed)
    result |= {"cells": options.cells, "subjects": options.subjects, "seed": options.seed}
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}))


if __name__ == "__main__":
    main()
