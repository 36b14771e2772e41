"""How fast cellkin trains, as ratios to a plain loop that does the published computation.

The step is that of the recipe `paper-allidb2`: ResNet18, 8 cells of 224 pixels, triplet loss +
0.1 x orthogonality + weighted cross-entropy, data handling, augmentation and SGD included. The
plain loop is eager float32 in PyTorch's default layout; it decodes each 257-pixel TIFF from memory,
crops, resizes, flips and turns it with Pillow one by one, and forms the orthogonality with
`conv2d(K, K)`, padded by 1 as the published code does. Both run in this process, with the same
threads and the same memory settings, step by step in turn; every figure is a median over rounds.

The last line is one JSON object:

    train_speedup            plain loop / cellkin, precision as `auto` resolves here
    train_speedup_fp32       the same with cellkin in float32
    train_speedup_same_loss  as train_speedup, the plain loop padded so that its loss equals ours
    orthogonality_share      share of our step that the orthogonality takes (`_fp32`: in float32)
    ..._cpu                  the same of processor time, for machines that do other work as well
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from clocks import cost
from PIL import Image
from pytorch_metric_learning import distances, losses

from cellkin.core.records import LabelSet
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.losses import covered_convolutions
from cellkin.learning.memory import keep_freed_memory
from cellkin.learning.networks import Network
from cellkin.learning.recipes import load_recipe
from cellkin.learning.sampling import TrainingData
from cellkin.learning.training import Place, _Run
from cellkin.learning.watch import LossWatch

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
CELLS, SOURCE, SIZE, BATCH = 32, 257, 224, 8
CLASSES = ("lymphoblast (1)", "lymphoblast (2)", "normal", "nothing")

Step = Callable[[], object]


def cells() -> tuple[list[bytes], np.ndarray]:
    """Smooth coloured pictures as TIFF files in memory, and their classes."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(CELLS):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((SOURCE, SOURCE), Image.Resampling.BICUBIC).save(buffer, "TIFF")
        files.append(buffer.getvalue())
    return files, np.arange(CELLS) % len(CLASSES)


def order(rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(CELLS)[:BATCH]


def ours(files: list[bytes], targets: np.ndarray, run: Path, **changes: object) -> Step:
    """One step of `cellkin train`, by the parts that it is made of."""
    recipe = load_recipe("paper-allidb2", needs_pretraining=False, init="scratch", **changes)
    pre = Preprocessor(size=SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    images = pre.prepare_many([np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) for f in files])
    data = TrainingData(
        images=images,
        ids=tuple(str(i) for i in range(CELLS)),
        targets=targets.astype(np.int64),
        train=np.arange(CELLS),
        val=np.arange(CELLS),
        labels=LabelSet(CLASSES, dict.fromkeys(CLASSES, "other cell")),
    )
    training = _Run(data, recipe, seed=0, run=run, place=Place(), progress=lambda *_: None)
    optimizer = training._optimizer(warm_up=False)
    loss_of = training._loss(warm_up=False)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    watch = LossWatch(1, run)

    def step() -> None:
        batch = order(rng)
        parts = training._backward(batch, loss_of, generator, share=1.0)
        watch.add(parts, [data.ids[i] for i in batch], recipe.lr)
        training._learn(optimizer, recipe.lr)

    return step


def plain(files: list[bytes], targets: np.ndarray, *, same_loss: bool) -> Step:
    """One step of a plain loop."""
    torch.manual_seed(0)
    network = Network("resnet18", len(CLASSES)).train()
    covered = covered_convolutions(network.body)
    optimizer = torch.optim.SGD(network.parameters(), lr=2e-4, momentum=0.9, weight_decay=5e-4)
    triplet = losses.TripletMarginLoss(
        margin=1.0, distance=distances.LpDistance(normalize_embeddings=False)
    )
    weights = torch.tensor([CELLS / np.sum(targets == k) for k in range(len(CLASSES))]).float()
    mean, std = torch.tensor([0.5] * 3).view(3, 1, 1), torch.tensor([0.25] * 3).view(3, 1, 1)
    rng = np.random.default_rng(0)

    def picture(file: bytes) -> torch.Tensor:
        image = Image.open(io.BytesIO(file)).convert("RGB").resize((SIZE, SIZE), Image.BICUBIC)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if turn := rng.integers(4):
            image = image.rotate(90 * int(turn))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255
        return (pixels - mean) / std

    def step() -> float:
        batch = order(rng)
        x = torch.stack([picture(files[i]) for i in batch])
        y = torch.from_numpy(targets[batch])
        features, logits = network(x)
        loss = F.cross_entropy(logits, y, weight=weights) + triplet(features, y)
        for conv in covered:
            loss = loss + 0.1 * gap(conv.weight, conv.stride[0], same_loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def gap(kernel: torch.Tensor, stride: int, same_loss: bool) -> torch.Tensor:
    """The orthogonality of one kernel, by a convolution with itself."""
    if kernel.shape[-1] == 1:
        flat = kernel.flatten(1)
        gram = flat @ flat.T if len(flat) <= flat.shape[1] else flat.T @ flat
        return torch.norm(gram - torch.eye(len(gram)))
    padding = 2 // stride * stride if same_loss else 1
    gram = F.conv2d(kernel, kernel, stride=stride, padding=padding)
    target = torch.zeros_like(gram)
    middle = padding // stride if same_loss else gram.shape[-1] // 2
    target[:, :, middle, middle] = torch.eye(len(gram))
    return torch.norm(gram - target)


def main() -> None:
    keep_freed_memory()
    files, targets = cells()
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        steps = {
            "plain": plain(files, targets, same_loss=False),
            "ours": ours(files, targets, run),
            "fp32": ours(files, targets, run, precision="fp32"),
            "plain, same loss": plain(files, targets, same_loss=True),
            "ours, no orthogonality": ours(files, targets, run, orthogonality=0.0),
            "fp32, no orthogonality": ours(
                files, targets, run, precision="fp32", orthogonality=0.0
            ),
        }
        for step in steps.values():
            step()
        rounds = [{key: cost(step) for key, step in steps.items()} for _ in range(ROUNDS)]
    result: dict[str, object] = {}
    for clock, suffix in enumerate(("", "_cpu")):
        rows = [{key: row[key][clock] for key in row} for row in rounds]

        def middle(a: str, b: str, rows: list[dict[str, float]] = rows) -> float:
            return statistics.median(row[a] / row[b] for row in rows)

        result |= {
            f"train_speedup{suffix}": middle("plain", "ours"),
            f"train_speedup_fp32{suffix}": middle("plain", "fp32"),
            f"train_speedup_same_loss{suffix}": middle("plain, same loss", "ours"),
            f"orthogonality_share{suffix}": 1 - middle("ours, no orthogonality", "ours"),
            f"orthogonality_share_fp32{suffix}": 1 - middle("fp32, no orthogonality", "fp32"),
            f"step_ms{suffix}": {
                key: round(1000 * statistics.median(row[key] for row in rows)) for key in steps
            },
        }
    for key, value in result["step_ms"].items():  # type: ignore[attr-defined]
        print(f"{key}: {value} ms for a step of {BATCH} cells")
    result |= {
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_tile": torch.cpu._is_amx_tile_supported(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "rounds": ROUNDS,
    }
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}))


if __name__ == "__main__":
    main()
