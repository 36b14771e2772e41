"""How surely fields that overlap are told from fields that do not.

    python benchmarks/overlapping.py                        drawn fields, a minute or two
    python benchmarks/overlapping.py --seeds 1 2 3 --smears 8
    python benchmarks/overlapping.py --real FOLDER --size 680 800
                                                            pairs cut from photographs as well

A pair is two windows of one smear that share 10 to 40 % of their area. Both get noise, uneven light
of their own and JPEG compression; the second is changed besides: out of focus, another colour cast,
another exposure, another scale (0.9 to 1.1), or all of it. A real photograph is cut twice, side by
side, so one window must be less than half as wide (`--size`). Every window is also compared with
windows of other smears of the same kind; drawn ones come in two of each style. A real pair that is
found though it was not cut from one photograph is printed: look at it, it may be an overlap.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cellkin.datasets.auditing import fields
from cellkin.drawing import scene
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.drawn import subject_style
from cellkin.drawing.scene import WHITE_CELLS
from cellkin.imaging.decode import decode

Bytes = NDArray[np.uint8]
Rng = np.random.Generator

CHANGES = {
    "none": (),
    "focus": ("focus",),
    "colour cast": ("cast",),
    "exposure": ("exposure",),
    "scale": ("scale",),
    "all": ("focus", "cast", "exposure", "scale"),
}
DRAWN = (1000, 750)  # pixels, at 5 per micrometre: 2592 x 1944 of ALL-IDB1 shrunk
LEAST, MOST = 0.1, 0.4


@dataclass(frozen=True)
class Pair:
    smear: str
    change: str
    looks: tuple[fields.FieldLook, fields.FieldLook]


def drawn_smears(seed: int, count: int) -> Iterator[tuple[str, Bytes]]:
    """Smears, two of each style."""
    for number in range(count):
        style = subject_style(np.random.default_rng([seed, number // 2]))
        rng = np.random.default_rng([seed, number, 1])
        kinds = [sorted(WHITE_CELLS)[i] for i in rng.integers(len(WHITE_CELLS), size=48)]
        shape = (2 * DRAWN[1], round(2.15 * DRAWN[0]))
        yield f"drawn {number}", scene.draw_field(kinds, rng, style, Canvas(shape, 5.0))[0]


def real_smears(folder: Path, seed: int, count: int) -> Iterator[tuple[str, Bytes]]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    for at in np.random.default_rng([seed, 2]).permutation(len(files))[:count]:
        yield files[at].name, decode(files[at])


def changed(rgb: Bytes, rng: Rng, kinds: tuple[str, ...], pixel: float) -> Bytes:
    """Photographed again. `pixel`: how many pixels are one of a field 1,000 pixels across."""
    out = rgb.astype(np.float32)
    if "focus" in kinds:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(1.5, 3.5) * pixel)
    if "cast" in kinds:
        gains = rng.uniform(0.75, 1.25, 3)
        out = 255 * (out / 255) ** rng.uniform(0.8, 1.25, 3) * (gains / gains.max())
    if "exposure" in kinds:
        dark = rng.random() < 0.6
        gain = rng.uniform(0.6, 1.0) if dark else rng.uniform(1.0, 1.2)
        out = out * gain + rng.uniform(0, 15) * dark
    y, x = (np.linspace(-1, 1, n) for n in out.shape[:2])
    tilt = rng.uniform(0, 0.1) * (np.cos(a := rng.uniform(0, 6.3)) * x + np.sin(a) * y[:, None])
    light = 1 - tilt - rng.uniform(0, 0.08) * (x * x + y[:, None] ** 2)
    noisy = np.clip(out * light[..., None] + rng.normal(0, 2.5, out.shape), 0, 255)
    how = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))]
    coded = cv2.imencode(".jpg", noisy.astype(np.uint8), how)[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def cut(smear: Bytes, size: tuple[int, int], rng: Rng, kinds: tuple[str, ...]) -> tuple[Bytes, ...]:
    """Two windows, (h, w) each, that share a part of the smear; and the shared part of the area."""
    wide, high = size
    scale = rng.uniform(0.9, 1.1) if "scale" in kinds else 1.0
    wide2, high2 = round(wide / scale), round(high / scale)
    share = rng.uniform(LEAST, MOST)
    room = smear.shape[0] - max(high, high2) >= high  # else side by side, at one height
    along = share ** rng.uniform(0, 1) if room else share
    x = round(wide - along * min(wide, wide2))
    y = round(high - share / along * min(high, high2)) if room else 0
    down, right = (smear.shape[0] - y - max(high, high2), smear.shape[1] - x - wide2)
    if min(down, right) < 0:
        raise SystemExit(f"a photograph of {smear.shape[1::-1]} is too small for windows of {size}")
    top, left = int(rng.integers(0, down + 1)), int(rng.integers(0, right + 1))
    first = smear[top : top + high, left : left + wide]
    second = smear[top + y : top + y + high2, left + x : left + x + wide2]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return first, np.asarray(cv2.resize(second, size, interpolation=how), np.uint8)


def pairs_of(name: str, smear: Bytes, size: tuple[int, int], rng: Rng) -> Iterator[Pair]:
    pixel = max(size) / 1000
    for change, kinds in CHANGES.items():
        first, second = cut(smear, size, rng, kinds)
        looks = [
            fields.field_look(changed(rgb, rng, how, pixel))
            for rgb, how in ((first, ()), (second, kinds))
        ]
        yield Pair(name, change, (looks[0], looks[1]))


def measured(pairs: list[Pair]) -> dict[str, object]:
    """Found by change, lowest score of a true pair, and everything found among strangers."""
    found: dict[str, list[bool]] = defaultdict(list)
    lowest = 1.0
    for pair in pairs:
        overlap = fields.overlapping(pair.looks)
        found[pair.change].append(bool(overlap))
        lowest = min([lowest, *(one.score for one in overlap)])
    looks = [look for pair in pairs for look in pair.looks]
    smears = [pair.smear for pair in pairs for _ in pair.looks]
    started = time.process_time()
    everything = fields.overlapping(looks)
    seconds = time.process_time() - started
    false = [o for o in everything if smears[o.first] != smears[o.second]]
    apart = sum(a != b for at, a in enumerate(smears) for b in smears[at + 1 :])
    return {
        "found": {change: f"{sum(hits)} of {len(hits)}" for change, hits in found.items()},
        "lowest_true_score": round(lowest, 2),
        "strangers_compared": apart,
        "strangers_joined": len(false),
        "who": sorted({f"{smears[o.first]} + {smears[o.second]} ({o.score:.2f})" for o in false}),
        "cpu_ms_per_pair": round(2000 * seconds / (len(looks) * (len(looks) - 1)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--smears", type=int, default=4, help="of each seed")
    parser.add_argument("--real", type=Path, help="a folder of photographs of fields")
    parser.add_argument("--size", type=int, nargs=2, default=[680, 800], help="of their windows")
    given = parser.parse_args()
    result: dict[str, object] = {}
    for seed in given.seeds:
        rng = np.random.default_rng([seed, 9])
        smears, size = drawn_smears(seed, given.smears), DRAWN
        if given.real:
            smears, size = real_smears(given.real, seed, given.smears), tuple(given.size)
        pairs = [pair for name, smear in smears for pair in pairs_of(name, smear, size, rng)]
        result[str(seed)] = measured(pairs)
        print(seed, result[str(seed)], flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
