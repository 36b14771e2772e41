"""Does histopathology pretraining help? Measured on mosaics of tissue tiles, then on drawn cells.

    python benchmarks/pretraining.py NCT_CRC_HE
    python benchmarks/pretraining.py NCT_CRC_HE --size 64 --mosaics 384 --epochs 6 --batch 64

NCT_CRC_HE is a folder of tiles, one folder per tissue (`ADI`, `LYM`, ... as its publishers lay it
out). The tiles are dealt into pools before mosaics are made; one pool of five validates. A ResNet18
learns the tissues in them, and fine-tuning on drawn cells, split by subject, then starts once from
that encoder and once from scratch, with the same recipe and seeds. Both are reported as found.

The last line is one JSON object: mAP and F1 per level with the mAP of guessing, and the test
accuracy on drawn cells from both starts, one value per seed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from cellkin import datasets
from cellkin.drawing.drawn import draw
from cellkin.drawing.mosaics import TISSUES, make_mosaics
from cellkin.learning.memory import keep_freed_memory
from cellkin.learning.recipes import Recipe
from cellkin.system import (
    DecisionSupport,
    PretrainOptions,
    TrainOptions,
    encoder_facts,
    pretrain,
    train,
)

PRETRAINING = Recipe(
    name="mosaics",
    task="pretraining",
    lr=0.02,
    schedule="cosine",
    orthogonality=0.1,
    zscore="training",
)
FINE_TUNING = Recipe(
    name="cells",
    epochs=5,
    batch=8,
    lr=2e-3,
    schedule="cosine",
    warmup_epochs=1,
    zscore="training",
    k=3,
)
REAL = os.environ.get("CELLKIN_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
TILES = Path(REAL) / "nct_crc_he"  # where none is named; see CONTRIBUTING.md
SEEDS = (0, 1, 2)


def told(task: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {task}", file=sys.stderr, flush=True)


def pretrained(given: argparse.Namespace, folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    files = {code: sorted((given.tiles / name).iterdir()) for name, code in TISSUES.items()}
    settings = {"size": given.size, "pools": 5}
    mosaics = make_mosaics(
        files, folder / "mosaics", count=given.mosaics, seed=given.seed, settings=settings
    )
    recipe = PRETRAINING.with_changes(size=given.size, epochs=given.epochs, batch=given.batch)
    encoder = pretrain(
        mosaics,
        recipe,
        seed=given.seed,
        out=folder / "encoder",
        options=PretrainOptions(progress=told),
    )
    levels = [level["scores"] for level in encoder_facts(encoder)["card"]["levels"]]
    for i, level in enumerate(levels, 1):
        print(
            f"level {i}: {level['codes']} codes, validation mAP {level['map']:.3f} "
            f"(guessing {level['frequency']:.3f}), F1 {level['f1']:.3f}"
        )
    return encoder, levels


def fine_tuned(cells: Any, folder: Path, recipe: Recipe, seed: int) -> dict[str, float]:
    atlas = train(cells, recipe, seed=seed, out=folder, options=TrainOptions(progress=told))
    rows = [json.loads(line) for line in (atlas / "log.jsonl").read_text().splitlines()]
    test = DecisionSupport.open(atlas, device="cpu").facts()["test"]
    measured = [row["val_accuracy"] for row in rows if row["val_accuracy"] is not None]
    return {
        "test": test["accuracy"],
        "balanced": test["balanced_accuracy"],
        "first_validation": measured[0],
        "best_validation": max(measured),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tiles", type=Path, nargs="?", default=TILES)
    parser.add_argument("--seed", type=int, default=0, help="of mosaics and pretraining")
    parser.add_argument("--size", type=int, default=96, help="of all images, in pixels")
    parser.add_argument("--mosaics", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=8, help="of pretraining")
    parser.add_argument("--batch", type=int, default=32, help="of pretraining")
    given = parser.parse_args()
    if not given.tiles.is_dir():
        print(json.dumps({"skipped": f"no tissue tiles at {given.tiles}"}))
        return
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder, levels = pretrained(given, folder)
        cells = datasets.open(
            draw(folder / "cells", cells=240, subjects=15, size=given.size, seed=7)
        )
        starts: dict[str, list[dict[str, float]]] = {}
        for start, init in (("pretrained", str(encoder)), ("scratch", "scratch")):
            for seed in SEEDS:
                recipe = FINE_TUNING.with_changes(size=given.size, init=init)
                found = fine_tuned(cells, folder / f"{start}-{seed}", recipe, seed)
                starts.setdefault(start, []).append(found)
                print(f"from {start}, seed {seed}: " + ", ".join(
                    f"{k.replace('_', ' ')} {v:.3f}" for k, v in found.items()
                ))  # fmt: skip
    means = {
        f"{start}_{key}": sum(row[key] for row in rows) / len(rows)
        for start, rows in starts.items()
        for key in rows[0]
    }
    result = {"levels": levels, "starts": starts, **means, "seeds": list(SEEDS), "size": given.size}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
