"""Draw docs/injection.png: a drawn class of two magnifications, before and after it is halved."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image

from cellkin import datasets
from cellkin.core.records import LabelSet
from cellkin.drawing.drawn import draw
from cellkin.system import propose_halving


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = datasets.open(draw(Path(folder) / "cells", cells=240, subjects=16, seed=3))
        samples = tuple(
            replace(s, labels=(("lymphoblast",),)) if s.label.startswith("lymphoblast") else s
            for s in data.samples
        )
        clinical = {"nothing": "no cell", "normal": "other cell", "lymphoblast": "lymphoblast"}
        merged = replace(data, samples=samples, labels=LabelSet(tuple(clinical), clinical))
        out = propose_halving(merged, "lymphoblast", out=Path(folder) / "halves").folder
        with Image.open(out / "split.png") as figure:
            small = figure.convert("RGB").resize((figure.width * 3 // 4, figure.height * 3 // 4))
            small.quantize(200).save(Path(__file__).with_name("injection.png"), optimize=True)


if __name__ == "__main__":
    main()
