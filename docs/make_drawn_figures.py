"""The figures of docs/drawn.md, and drawn cells beside real ones for your own eyes.

    python docs/make_drawn_figures.py               writes docs/images/drawn-*.jpg
    python docs/make_drawn_figures.py --pbc PBC     also build/drawn-beside-pbc.png

`PBC` is a folder of the published data set (https://doi.org/10.17632/snkd93bnjr.1). The picture
with real cells goes to `build/`, which is never committed: no real image is part of cellkin.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cellkin.core.arrays import Bytes
from cellkin.datasets.listing import list_folder
from cellkin.drawing.drawn import Order, draw_cell, draw_layout, subject_style

HERE = Path(__file__).resolve().parent
KINDS = {
    "lymphocyte": "lymphocyte",
    "lymphoblast": "lymphoblast",
    "precursor": "normal precursor",
    "monocyte": "monocyte",
    "neutrophil": "neutrophil",
    "eosinophil": "eosinophil",
    "basophil": "basophil",
    "ig": "immature granulocyte",
    "erythroblast": "erythroblast",
    "platelet": "platelet",
}
PBC_KINDS = ("lymphocyte", "monocyte", "neutrophil", "eosinophil", "basophil", "ig", "erythroblast")
PBC_ZOOM = 30 / 42  # a picture of PBC is 42 micrometres across
GAP = 4
COLOURS = np.array([[236, 236, 236], [142, 172, 220], [84, 39, 143]], np.uint8)


def cell(kind: str, subject: int, side: int, zoom: float) -> Bytes:
    style = subject_style(np.random.default_rng([1, subject]))
    style = style.in_field(np.random.default_rng([2, subject]), zoom)
    return draw_cell(kind, np.random.default_rng([3, subject]), style, side)[0]


def row(pictures: Sequence[Bytes]) -> Bytes:
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (picture, gap)][:-1])


def captioned(picture: Bytes, text: str, height: int = 26) -> Bytes:
    strip = Image.new("RGB", (picture.shape[1], height), "white")
    font = ImageFont.load_default(size=17)
    ImageDraw.Draw(strip).text((2, 3), text, fill=(30, 30, 30), font=font)
    return np.vstack([np.asarray(strip), picture])


def page(blocks: Sequence[Bytes], columns: int) -> Bytes:
    rows = [blocks[k : k + columns] for k in range(0, len(blocks), columns)]
    gap = np.full((blocks[0].shape[0], 5 * GAP, 3), 255, np.uint8)
    lines = []
    for line in rows:
        parts = [part for block in line for part in (block, gap)][:-1]
        whole = np.hstack(parts)
        lines += [whole, np.full((2 * GAP, whole.shape[1], 3), 255, np.uint8)]
    return np.vstack(lines)


def contact_sheet() -> Bytes:
    blocks = [
        captioned(row([cell(kind, n, 128, 1.0) for n in range(4)]), title)
        for kind, title in KINDS.items()
    ]
    return page(blocks, 2)


def close_up() -> Bytes:
    pairs = ("lymphocyte", "lymphoblast")
    return page(
        [captioned(row([cell(kind, n, 250, 1.5) for n in range(20, 24)]), kind) for kind in pairs],
        1,
    )


def field_and_mask() -> Bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = draw_layout("all-idb1", Path(name) / "f", Order(40, 4, 128, seed=5))
        fields = sorted((folder / "im").glob("*_1.jpg"))
        file = max(fields, key=lambda p: (folder / "xyc" / f"{p.stem}.xyc").stat().st_size)
        rgb = np.asarray(Image.open(file))
        mask = np.asarray(Image.open(folder / "masks" / "im" / f"{file.stem}.png"))
    both = [Image.fromarray(p).resize((560, 420)) for p in (rgb, COLOURS[mask])]
    return page([np.asarray(both[0]), np.asarray(both[1])], 2)


def beside_pbc(folder: Path) -> Bytes:
    names = list_folder(folder).by_top_folder()
    lines = []
    for kind in PBC_KINDS:
        chosen = [n for n in names[kind] if n.endswith(".jpg")][:: max(len(names[kind]) // 5, 1)]
        real = [
            np.asarray(Image.open(folder / n).convert("RGB").resize((180, 180))) for n in chosen[:4]
        ]
        real += [np.full((180, 180, 3), 255, np.uint8)] * (4 - len(real))
        ours = [cell(kind, n, 180, PBC_ZOOM) for n in range(4)]
        lines += [captioned(row(ours), f"{kind}: drawn"), captioned(row(real), f"{kind}: PBC")]
    return page(lines, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pbc", type=Path, help="folder of real cells, one folder per class")
    options = parser.parse_args()
    made = {"kinds": contact_sheet(), "close-up": close_up(), "field": field_and_mask()}
    (HERE / "images").mkdir(exist_ok=True)
    for name, picture in made.items():
        path = HERE / "images" / f"drawn-{name}.jpg"
        Image.fromarray(picture).save(path, quality=88)
        print(path)
    if options.pbc:
        path = HERE.parent / "build" / "drawn-beside-pbc.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(beside_pbc(options.pbc)).save(path)
        print(path)


if __name__ == "__main__":
    main()
