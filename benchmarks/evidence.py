"""What evidence costs, as ratios to bare forward passes of the same network in the same run.

ResNet18 at 224 pixels, k = 3. Every figure is the median over interleaved rounds (baseline, ours,
baseline, ours, ...); every round explains images that were not explained before, and decides single
ones that were not seen before. The last line is one JSON object:

    evidence_single_ratio       full evidence of one image in memory through `explain`, over one
                                bare forward pass; reference maps stored in the atlas (fp16)
    evidence_batch64_ratio      the same of 64 images at once through `explain`, per image,
                                over a bare pass of 64 images, per image
    frozen_pass_ratio           a bare pass of 64 images through the frozen network that tells
                                unknown kinds, over the bare pass of the atlas's own
    evidence_batch64_looks_ratio  evidence of 64 images over the bare passes of both networks, which
                                look at every cell: ResNet18 shares no stage with the frozen
                                EfficientNet-Lite0
    evidence_unstored_ratio     as the first, without stored maps: up to 5 reference cells are
                                looked at again for each query
    published_way_ratio         the features, and three pair tensors by a four-fold Python loop
                                over positions, over one bare forward pass
    decide_single_ratio         `look` and `decide` for one image in memory, over one bare forward
                                pass
    decide_throughput_ratio     images per second through `decide` on images in memory, over
                                the bare network's at the same batch size
    decide_files_ratio          the same from PNG files, decoding overlapped

`cost_in_processor_time` holds ours / baseline of the same rounds in processor time, which other
work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from clocks import cost
from PIL import Image

from cellkin import datasets
from cellkin.drawing.drawn import draw
from cellkin.learning.frozen import frozen_encoder
from cellkin.learning.memory import keep_freed_memory
from cellkin.learning.recipes import Recipe
from cellkin.system import DecisionSupport, TrainOptions, train

SIZE, K = 224, 3
POSITIONS = 49
CPU: dict[str, float] = {}  # the same ratios in processor time


def ratio(
    name: str, ours: Callable[[], object], baseline: Callable[[], object], rounds: int
) -> float:
    """Median of ours / baseline over interleaved rounds, on the clock; the other is kept."""
    ours(), baseline()  # warm up
    rows = [(*cost(baseline), *cost(ours)) for _ in range(rounds)]
    wall = statistics.median(r[2] / r[0] for r in rows)
    CPU[name] = round(statistics.median(r[3] / r[1] for r in rows), 3)
    bare, own = (1e3 * statistics.median(r[i] for r in rows) for i in (0, 2))
    print(f"{name}: bare {bare:.1f} ms, ours {own:.1f} ms")
    print(f"  ratio {wall:.3f} on the clock, {CPU[name]:.3f} in processor time")
    return wall


def four_fold_loop(query: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The pair tensors, position by position, as published."""
    maps = np.zeros((len(references), 7, 7, 7, 7), np.float32)
    for n in range(len(references)):
        for i in range(7):
            for j in range(7):
                for x in range(7):
                    for y in range(7):
                        product = query[:, i, j] @ references[n, :, x, y]
                        maps[n, i, j, x, y] = product / POSITIONS**2
    return maps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cells", type=int, default=90)
    chosen = parser.parse_args()
    keep_freed_memory()
    recipe = Recipe(backbone="resnet18", size=SIZE, epochs=1, batch=16, k=K, precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = draw(folder / "cells", cells=chosen.cells, subjects=12, size=SIZE, seed=0)
        data = datasets.open(drawn)
        dss = DecisionSupport.open(
            train(data, recipe, out=folder / "atlas", options=TrainOptions(maps="fp16"))
        )
        result = measured(dss, folder, chosen.rounds)
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}))


def measured(dss: DecisionSupport, folder: Path, rounds: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    encoder, atlas = dss.atlas.encoder, dss.atlas
    stored = dss.facts()["maps"]["bytes"]
    print(f"{len(atlas.cells)} reference cells; their maps take {stored / 1e6:.1f} MB in fp16")
    unstored = DecisionSupport(replace(atlas, maps=None))
    fresh = (np.asarray(atlas.image(i % len(atlas.cells))) for i in count())

    def images(n: int) -> list[np.ndarray]:
        """Reference cells with fresh noise: images that nothing has seen before."""
        noise = rng.integers(-20, 21, (n, SIZE, SIZE, 3))
        return [np.clip(next(fresh) + e, 0, 255).astype(np.uint8) for e in noise]

    def batch(n: int) -> torch.Tensor:
        x = torch.from_numpy(encoder.preprocessor.normalize(np.stack(images(n))))
        return x.contiguous(memory_format=torch.channels_last)

    def bare(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return encoder.network.body.forward_features(x).mean((2, 3))

    def published(image: np.ndarray) -> None:
        look = dss.look(image)
        near = [atlas.cells.ids.index(n.id) for n in dss.decide(look).neighbors]
        four_fold_loop(look.feature_map, np.asarray(atlas.maps[near], np.float32))

    frozen, _ = frozen_encoder(SIZE, encoder.device)

    def bare_frozen(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return frozen.network.feature_map(x)

    one, many, some = batch(1), batch(64), batch(32)
    # made beforehand, one for every round: making an image is no part of what is timed
    singles = iter(images(4 * rounds + 9))
    heaps = iter([images(64) for _ in range(max(5, rounds // 3) + 1)])
    group = images(32)
    files = [folder / f"{i}.png" for i in range(32)]
    for path, image in zip(files, group, strict=True):
        Image.fromarray(image).save(path)
    few = max(5, rounds // 3)
    works = {
        "explain one image, reference maps stored": (
            lambda: dss.explain(next(singles), gate=False), one, rounds),
        "explain 64 images at once, reference maps stored": (
            lambda: dss.explain(next(heaps), gate=False), many, few),
        "the frozen network alone, 64 images": (lambda: bare_frozen(many), many, few),
        "explain one image, reference maps computed": (
            lambda: unstored.explain(next(singles), gate=False), one, rounds),
        "three pair tensors by loops over positions": (
            lambda: published(next(singles)), one, few),
        "decide one image in memory": (
            lambda: dss.decide(dss.look(next(singles)), gate=False), one, rounds),
        "decide 32 images in memory": (lambda: dss.decide(group, gate=False), some, rounds),
        "decide 32 images from PNG files": (lambda: dss.decide(files, gate=False), some, rounds),
    }  # fmt: skip
    single, at_once, frozen_pass, computed, loops, alone, memory, disk = (
        ratio(name, ours, lambda x=x: bare(x), times) for name, (ours, x, times) in works.items()
    )
    return {
        "evidence_single_ratio": single,
        "evidence_batch64_ratio": at_once,
        "frozen_pass_ratio": frozen_pass,
        "evidence_batch64_looks_ratio": at_once / (1 + frozen_pass),
        "evidence_unstored_ratio": computed,
        "published_way_ratio": loops,
        "decide_single_ratio": alone,
        "decide_throughput_ratio": 1 / memory,
        "decide_files_ratio": 1 / disk,
        "cost_in_processor_time": CPU,
        "maps_bytes": stored,
        "backbone": "resnet18",
        "size": SIZE,
        "k": K,
        "references": len(atlas.cells),
        "threads": torch.get_num_threads(),
        "precision": "fp32",
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
