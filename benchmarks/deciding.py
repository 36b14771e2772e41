"""How fast cellkin decides, as ratios to the bare network in the same run.

Every figure is the median over interleaved rounds: baseline, ours, baseline, ours, ... The last
line is one JSON object:

    decide_throughput_ratio   images per second through `decide_many` on images in memory, over the
                              bare network's (`forward_features` and mean) at the same batch size
    decide_single_ratio       time of `look` and `decide` for one image over one bare forward pass
    explain_single_ratio      time of the full evidence of one image over one bare forward pass
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cellkin import datasets
from cellkin.datasets.drawn import draw
from cellkin.learning.recipes import Recipe
from cellkin.system import DecisionSupport, train

ROUNDS = 7
BATCH = 32
SIZE = 224


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(ours: Callable[[], object], baseline: Callable[[], object]) -> tuple[float, float, float]:
    """Median of ours / baseline over rounds, and the two medians in seconds."""
    ours(), baseline()  # warm up
    pairs = [(seconds(baseline), seconds(ours)) for _ in range(ROUNDS)]
    return (
        statistics.median(b / a for a, b in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a for a, _ in pairs),
    )


def main() -> None:
    recipe = Recipe(backbone="resnet18", size=SIZE, epochs=1, batch=16, k=3, precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        cells = datasets.open(draw(Path(name) / "cells", cells=90, subjects=12, size=SIZE, seed=0))
        dss = DecisionSupport.open(train(cells, recipe, out=Path(name) / "atlas"))
        rng = np.random.default_rng(0)
        images = list(rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8))
        encoder = dss.atlas.encoder
        x = torch.from_numpy(encoder.preprocessor.normalize(np.stack(images)))
        x = x.contiguous(memory_format=torch.channels_last)

        def bare(batch: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return encoder.network.body.forward_features(batch).mean((2, 3))

        many, many_s, bare_many_s = ratio(lambda: dss.decide_many(images), lambda: bare(x))
        one, one_s, bare_s = ratio(lambda: dss.decide(dss.look(images[0])), lambda: bare(x[:1]))
        why, why_s, _ = ratio(lambda: dss.explain(images[0]), lambda: bare(x[:1]))
    print(f"decide {BATCH} images: {many_s:.3f} s, bare network {bare_many_s:.3f} s")
    print(f"decide one image: {one_s:.4f} s, bare network {bare_s:.4f} s")
    print(f"explain one image (k = 3): {why_s:.4f} s")
    result = {
        "decide_throughput_ratio": 1 / many,
        "decide_single_ratio": one,
        "explain_single_ratio": why,
        "backbone": "resnet18",
        "batch": BATCH,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}))


if __name__ == "__main__":
    main()
