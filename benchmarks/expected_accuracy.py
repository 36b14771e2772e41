"""What `cellkin fits` expects, beside the truth, for labelled cells as they are and changed.

The cells that an atlas has seen are left out, the others are given to `fits` as they are, darker,
in another light, paler, stained stronger, redder and bluer, blurred, and smaller and larger; and,
with --other, cells of another place. Told are the verdict, the share of far cells, the accuracy
that is expected (also where `fits` refuses to say it) and the true one.

    python benchmarks/expected_accuracy.py atlas ~/PBC --other ~/other-place --cells 150

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cellkin import datasets
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.records import Sample
from cellkin.imaging.decode import decode
from cellkin.system import DecisionSupport, Look
from cellkin.system.fits import expected_calls, fits

Change = Callable[[Bytes], Bytes]


def gained(*gain: float) -> Change:
    """Another light."""
    return lambda rgb: np.clip(rgb * np.array(gain), 0, 255).astype(np.uint8)


def stained(*gain: float) -> Change:
    """More or less of what red, green and blue are absorbed."""

    def change(rgb: Bytes) -> Bytes:
        light: Floats = np.percentile(rgb.reshape(-1, 3), 97, axis=0)
        density = -np.log(np.maximum(rgb, 1) / light) * np.array(gain)
        return np.clip(light * np.exp(-density), 0, 255).astype(np.uint8)

    return change


def blurred(width: float) -> Change:
    """Out of focus."""
    return lambda rgb: np.asarray(cv2.GaussianBlur(rgb, (0, 0), width), np.uint8)


def sized(factor: float) -> Change:
    """The same cell larger or smaller, in a picture of the same size."""

    def change(rgb: Bytes) -> Bytes:
        height, width = rgb.shape[:2]
        middle = cv2.getRotationMatrix2D((width / 2, height / 2), 0, factor)
        moved = cv2.warpAffine(
            rgb, middle, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(moved, np.uint8)

    return change


CHANGES: dict[str, Change] = {
    "as they are": lambda rgb: rgb,
    "darker": gained(0.8, 0.8, 0.8),
    "yellow light": gained(1.0, 0.97, 0.8),
    "paler": stained(0.7, 0.7, 0.7),
    "stained stronger": stained(1.3, 1.3, 1.3),
    "redder": stained(0.75, 1.1, 1.2),
    "bluer": stained(1.25, 0.95, 0.8),
    "blurred by 1.5": blurred(1.5),
    "blurred by 3": blurred(3.0),
    "smaller by 0.7": sized(0.7),
    "larger by 1.4": sized(1.4),
}


def row(dss: DecisionSupport, samples: list[Sample], change: Change) -> dict[str, Any]:
    """What is expected of these cells, and how many are called right."""
    answers = dss.look([change(decode(sample.image)) for sample in samples])
    kept = [(look, s) for look, s in zip(answers, samples, strict=True) if isinstance(look, Look)]
    looks, samples = [look for look, _ in kept], [sample for _, sample in kept]
    decisions = dss.decide(looks, gate=False)
    seen = [(look.image, one) for look, one in zip(looks, decisions, strict=True)]
    found, expected = fits(dss.atlas, seen), expected_calls(dss.atlas, decisions)[0]
    right = [
        dss.atlas.labels.right(d.label, s.label) for d, s in zip(decisions, samples, strict=True)
    ]
    return {
        "verdict": found.verdict,
        "far": found.far,
        "expected": None if expected is None else expected.accuracy,
        "low": None if expected is None else expected.low,
        "high": None if expected is None else expected.high,
        "said": found.expected is not None,
        "right": float(np.mean(right)),
        "found": {s.name: s.words for s in found.shifts if s.found},
    }


def drawn(folder: Path, dss: DecisionSupport, cells: int, seed: int) -> list[Sample]:
    """So many cells of the atlas's classes that it has not seen, each class alike."""
    data = datasets.open(folder)
    known = {i for part in (dss.atlas.cells, *dss.atlas.held_out) for i in part.ids}
    names = {Path(i).name for i in known}
    generator = np.random.default_rng(seed)
    found: list[Sample] = []
    classes = [name for name in data.labels.names if name in dss.atlas.labels.names]
    for name in classes:
        own = [s for s in data.samples if s.label == name and Path(s.id).name not in names]
        chosen = generator.permutation(len(own))[: cells // len(classes)]
        found += [own[i] for i in chosen.tolist()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("atlas", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--other", type=Path, action="append", default=[])
    parser.add_argument("--cells", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.data is None:
        print("not measured: give an atlas, and a folder of labelled cells of its classes")
        print(json.dumps({"rows": {}}))
        return
    dss = DecisionSupport.open(chosen.atlas)
    own = drawn(chosen.data, dss, chosen.cells, chosen.seed)
    asked = {name: (own, change) for name, change in CHANGES.items()}
    for other in chosen.other:
        asked[other.name] = (
            drawn(other, dss, chosen.cells, chosen.seed),
            CHANGES["as they are"],
        )
    rows = {}
    for name, (samples, change) in asked.items():
        one = rows[name] = row(dss, samples, change)
        expected = "-" if one["expected"] is None else f"{100 * one['expected']:.0f} %"
        print(
            f"{name:18} {one['verdict']:15} far {100 * one['far']:3.0f} %  expected {expected:>5}"
            f"{'' if one['said'] else ' (not said)'}  right {100 * one['right']:.0f} %  "
            f"{', '.join(f'{n} {w}' for n, w in one['found'].items())}",
            flush=True,
        )
    print(json.dumps({"cells": len(own), "seed": chosen.seed, "rows": rows}))


if __name__ == "__main__":
    main()
