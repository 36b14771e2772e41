"""Compiled networks against torch: images a second, and what changes.

Every network is looked through in torch and by the engine, in each precision that the processor
has, in turn, with one thread; the figures are processor time, which other work on the machine
changes less than the clock. Weights: those of ImageNet for EfficientNet-Lite0; the others are
random (for speed alone: nothing is downloaded), and their int8 is calibrated on the same pictures.

With a folder of PBC (--data) an atlas is made of it by the ImageNet weights of EfficientNet-Lite0
and compiled in every precision: calls that differ on its test cells, the largest changes, and how
near deciding on files comes to the bare networks (`decide_over_bare`: 1 where the rest costs
nothing).

    python benchmarks/engines.py [--data PBC] [--rounds 7] [--isa avx2]

--isa avx2 holds torch and the engine back to what processors without AVX-512 can do. The last line
is one JSON object: NETWORK -> PRECISION -> images a second, and how many times as quick as torch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch
if "avx2" in sys.argv:
    os.environ |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

import cv2
import numpy as np
from clocks import cost

from cellkin import DecisionSupport, datasets
from cellkin.atlas import Atlas
from cellkin.core.records import ImageRef
from cellkin.imaging.decode import decode
from cellkin.imaging.preprocess import packaged_lite0
from cellkin.learning.encoder import Encoder
from cellkin.learning.engines import PRECISIONS, has_bf16
from cellkin.learning.networks import Network
from cellkin.learning.translating import translate
from cellkin.system import index
from cellkin.system.compiling import CompileOptions, compile_atlas
from cellkin.system.runs import packaged_encoder

NETWORKS = ("tf_efficientnet_lite0", "resnet18", "resnet50", "vit_base_patch16_224")
SIZE, IMAGES, MEASURED = 224, 8, 32


def pictures(count: int) -> np.ndarray:
    """Smooth coloured pictures."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 14, 14, 3), dtype=np.uint8)
    return np.stack([cv2.resize(one, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for one in small])


def encoder_of(name: str) -> Encoder:
    if name == NETWORKS[0]:
        return packaged_encoder(SIZE, "cpu")
    return Encoder(Network(name, 2, size=SIZE), packaged_lite0(SIZE), ("a", "b"))


def precisions() -> list[str]:
    return [
        p for p in PRECISIONS["openvino"] if p != "bf16" or (has_bf16() and "avx2" not in sys.argv)
    ]


def seconds(encoder: Encoder, images: np.ndarray) -> float:
    started = time.process_time()
    encoder.vectors(images)
    return (time.process_time() - started) / len(images)


def speeds(name: str, rounds: int) -> dict[str, Any]:
    """Images a second of one network, in torch and compiled."""
    eager, seen = encoder_of(name), pictures(MEASURED)
    with tempfile.TemporaryDirectory() as folder:
        sides = {"torch fp32": eager}
        for precision in precisions():
            place = Path(folder) / precision
            place.mkdir()
            how = {"engine": "openvino", "precision": precision, "pictures": seen}
            sides[precision] = translate(eager, place, **how)
        for side in sides.values():
            side.vectors(seen[:IMAGES])  # warm up
        rows = [{k: seconds(s, seen[:IMAGES]) for k, s in sides.items()} for _ in range(rounds)]
    middle = {key: statistics.median(row[key] for row in rows) for key in sides}
    times = {key: statistics.median(r["torch fp32"] / r[key] for r in rows) for key in sides}
    for key in sides:
        print(f"{name} {key}: {1 / middle[key]:.1f} images a second, {times[key]:.2f} times torch")
    return {k: {"per_second": 1 / middle[k], "times": times[k]} for k in sides}


def changes(data: Path) -> dict[str, Any]:
    """What changes on the test cells of an atlas, by precision."""
    found, cells = {}, datasets.open(data)
    with tempfile.TemporaryDirectory() as name:
        atlas = index("imagenet", cells, out=Path(name) / "atlas")
        for precision in precisions():
            how = CompileOptions(precision=precision, most=1.0)
            made = compile_atlas(atlas, cells, out=Path(name) / precision, options=how)
            row = Atlas.open(made).facts["engine"]
            found[precision] = {k: row[k] for k in ("times", "part", "changes", "evidence")}
            told = {k: row["changes"][k] for k in ("percentile", "distance", "sets", "kin")}
            files = [sample.image.path for sample in cells.samples[:: max(1, len(cells) // 64)]]
            found[precision]["decide_over_bare"] = throughput(made, files, 3)
            calls = row["changes"]["calls"]
            print(f"{precision}: {calls['count']} of {calls['n']} calls differ; {told}", flush=True)
    return found


def throughput(folder: Path, files: list[Path], rounds: int) -> dict[str, float]:
    """Images a second of deciding on files, over those of the two bare networks that it asks; on
    the clock, where the rest has a core to itself, and in processor time.
    """
    dss = DecisionSupport.open(folder)
    encoder, frozen = dss.atlas.encoder, dss.atlas.frozen
    images = encoder.preprocessor.prepare_many([decode(ImageRef(file)) for file in files])

    def bare() -> None:
        encoder.view(images)
        if frozen is not None and frozen.encoder is not None:
            frozen.encoder.vectors(images)

    works = (bare, lambda: dss.decide(files))
    for work in works:
        work()  # warm up
    rows = [[cost(work) for work in works] for _ in range(rounds)]
    clocks = (("clock", 0), ("processor", 1))
    return {name: statistics.median(a[i] / b[i] for a, b in rows) for name, i in clocks}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--isa", choices=("all", "avx2"), default="all")
    given = parser.parse_args()
    result: dict[str, Any] = {name: speeds(name, given.rounds) for name in NETWORKS}
    if given.data:
        result["changes"] = changes(given.data)
    print(json.dumps({**result, "isa": given.isa, "rounds": given.rounds}))


if __name__ == "__main__":
    main()
