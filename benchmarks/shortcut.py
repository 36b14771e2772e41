"""A shortcut planted in what lies around the cells: what does a training learn?

Drawn cells of three kinds. In the training, validation and first test set the surroundings tell the
kind: each has its own colour of the light and its own crowd of red cells. In the second test set
cells and surroundings are dealt to each other at random. What is lost from the first to the second
was learned from the surroundings. Side by side: plain training, training with surroundings swapped
by two shares, and cells alone on a neutral ground.

    python benchmarks/shortcut.py
    python benchmarks/shortcut.py --cells 1200 --seeds 3

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cellkin.core.arrays import Bytes, Ints
from cellkin.core.records import LabelSet
from cellkin.drawing.camera import subject_style
from cellkin.drawing.scene import draw_cell
from cellkin.imaging.loading import prepared_blocks
from cellkin.learning.recipes import load_recipe
from cellkin.learning.sampling import TrainingData
from cellkin.learning.selection import validated
from cellkin.learning.training import train_encoder

KINDS = ("lymphoblast", "lymphocyte", "monocyte")
LIGHTS = ((0.99, 0.90, 0.76), (0.88, 0.92, 0.99), (0.97, 0.86, 0.93))  # cream, blue, rose
CROWDS = (0.15, 0.62, 0.38)  # share of the field that red cells cover
WAYS = {
    "plain": {},
    "swapped, half": {"swap_grounds": 0.5},
    "swapped, all": {"swap_grounds": 1.0},
    "alone": {"alone": True},
}


def pictures(kinds: Ints, surroundings: Ints, seed: int, size: int) -> list[Bytes]:
    """Drawn cells (size, size, 3) of these kinds among surroundings of these kinds."""
    found = []
    for number, (kind, around) in enumerate(zip(kinds, surroundings, strict=True)):
        rng = np.random.default_rng([seed, number])
        style = subject_style(rng).in_field(rng, 1.0)
        light = np.array(LIGHTS[around]) * rng.uniform(0.96, 1.01)
        crowd = float(np.clip(CROWDS[around] + rng.normal(0, 0.04), 0.05, 0.7))
        style = replace(style, light=light.astype(np.float32), crowding=crowd)
        found.append(draw_cell(KINDS[kind], rng, style, size)[0])
    return found


def drawn(cells: int, seed: int, size: int) -> tuple[list[Bytes], Ints, list[Ints]]:
    """Pictures, kinds, and the positions of the training, validation and two test parts."""
    rng = np.random.default_rng(seed)
    counts = (cells, cells // 4, cells // 2, cells // 2)
    kinds = rng.integers(0, len(KINDS), sum(counts))
    parts = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    surroundings = kinds.copy()
    surroundings[parts[3]] = rng.permutation(kinds[parts[3]])
    return pictures(kinds, surroundings, seed, size), kinds, parts


def measured(way: dict[str, float | bool], options: argparse.Namespace, seed: int) -> list[float]:
    """Accuracy of the neighbour vote where surroundings tell the kind, and where they do not."""
    raw, kinds, (train, val, *tests) = drawn(options.cells, seed, options.size)
    recipe = load_recipe("quick", size=options.size, **way)
    if options.epochs:
        recipe = replace(recipe, epochs=options.epochs, validate_from=1)
    data = TrainingData(
        images=np.concatenate(list(prepared_blocks(raw, recipe.geometry, unfound=True))),
        ids=tuple(str(i) for i in range(len(raw))),
        targets=kinds,
        train=train,
        val=val,
        labels=LabelSet(KINDS, dict.fromkeys(KINDS, "other cell")),
    )
    with tempfile.TemporaryDirectory() as run:
        encoder = train_encoder(data, recipe, seed=seed, run=Path(run)).encoder
    ones = torch.ones(len(KINDS))
    return [validated(encoder, replace(data, val=test), recipe, ones).accuracy for test in tests]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", type=int, default=720)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, help="as the recipe quick says")
    parser.add_argument("--way", action="append", choices=[*WAYS], help="only these")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    rows = {}
    for name in options.way or WAYS:
        started = time.process_time()
        found = np.mean(
            [measured(WAYS[name], options, seed) for seed in range(options.seeds)], axis=0
        )
        there, away = found.tolist()
        rows[name] = {"shortcut there": there, "taken away": away, "lost": there - away}
        seconds = time.process_time() - started
        print(f"{name}: {there:.1%} -> {away:.1%}, {seconds:.0f} s of CPU", flush=True)
    print(json.dumps({"cells": options.cells, "seeds": options.seeds, "ways": rows}))


if __name__ == "__main__":
    main()
