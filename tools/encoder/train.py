"""Teach the packaged encoder: `train.py DATA OUT`; stopped, the same command goes on where it was.

DATA is the folder with pbc_large, chula and cnmc2019 (see docs/encoder.md). OUT/NAME receives the
encoder. About half an hour on one idle core for EfficientNet-Lite0, an hour for resnet18.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import library
import torch

from cellkin.learning.memory import keep_freed_memory
from cellkin.learning.packaged import write_packaged
from cellkin.learning.pretraining import pretrain_encoder
from cellkin.learning.recipes import load_recipe


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("data", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--backbone", default="tf_efficientnet_lite0")
    asked.add_argument("--places", nargs="+", default=["pbc", "chula"], choices=library.PLACES)
    asked.add_argument("--epochs", type=int)
    asked.add_argument("--size", type=int)
    asked.add_argument("--view", choices=("raw", "white", "density"))
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    recipe = load_recipe(
        "haematology" if given.backbone == "tf_efficientnet_lite0" else "haematology-resnet18",
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
    seen = [cells.marks[row] for row in (*data.train, *data.val)]
    print(write_packaged(trained.encoder, seen, given.out / recipe.name), file=sys.stderr)


if __name__ == "__main__":
    main()
