"""Drawn slides of growing sides, searched: peak memory, megapixels and cells a second.

    python benchmarks/slide.py FOLDER --sides 10000 20000 30000
    python benchmarks/slide.py FOLDER --sides 60000 --seconds 300

A slide is a pyramidal tiled TIFF of one drawn block that is repeated, its tiles stored once: some
megabytes, whatever its side. Four tenths of the blocks hold cells, the others are empty ground.
With `--seconds` a search is stopped then, and what was done until then is measured. Seconds are
those of the processor, so that what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np

from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field

UM = 0.25  # micrometres per pixel
BLOCK, TILE = 2048, 512
WHITES = 120  # in a block
FULL = 0.4  # share of the blocks that hold cells
STEPS = (1, 4, 16)  # of the levels
SHORT, LONG, LONG8, RATIONAL = 3, 4, 16, 5


def drawn_blocks() -> tuple[np.ndarray, np.ndarray]:
    """A block of cells and one of empty ground, (BLOCK, BLOCK, 3)."""
    rng = np.random.default_rng([36, 0])
    style = subject_style(rng).in_field(rng, 1.0)
    kinds = ["lymphoblast"] * (WHITES // 2) + ["neutrophil", "lymphocyte"] * (WHITES // 4)
    rgb, _, _ = draw_field(kinds, rng, style, Canvas((BLOCK, BLOCK), 1 / UM), 0.8)
    ground = np.percentile(rgb.reshape(-1, 3), 97, axis=0)
    empty = np.clip(rng.normal(ground, 1.5, rgb.shape), 0, 255).astype(np.uint8)
    return rgb, empty


def write_slide(path: Path, side: int) -> None:
    """A square slide of whole blocks, as BigTIFF with its levels in SubIFDs."""
    blocks = max(side // BLOCK, 1)
    full = np.random.default_rng([36, side]).random((blocks, blocks)) < FULL
    pair = drawn_blocks()
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        levels = [write_tiles(file, full, pair, step) for step in STEPS]
        below = [write_directory(file, *level, {254: (LONG, [1])}) for level in levels[1:]]
        whole = {
            254: (LONG, [0]),
            282: (RATIONAL, [round(1e4 / UM), 1]),
            283: (RATIONAL, [round(1e4 / UM), 1]),
            296: (SHORT, [3]),
            330: (LONG8, below),
        }
        first = write_directory(file, *levels[0], whole)
        file.seek(8)
        file.write(struct.pack("<Q", first))


def write_tiles(file, full: np.ndarray, pair, step: int) -> tuple[int, list[int], list[int]]:
    """Side, offsets and sizes of the tiles of one level; equal tiles are written once."""
    written: dict[bytes, tuple[int, int]] = {}
    small = [cv2.resize(b, (BLOCK // step,) * 2, interpolation=cv2.INTER_AREA) for b in pair]
    own, side = BLOCK // step, full.shape[0] * BLOCK // step
    places = []
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            tile = np.full((TILE, TILE, 3), 255, np.uint8)
            for y in range(top, min(top + TILE, side), min(own, TILE)):
                for x in range(left, min(left + TILE, side), min(own, TILE)):
                    block = small[int(not full[y // own, x // own])]
                    part = block[y % own : y % own + TILE, x % own : x % own + TILE]
                    tile[y - top :, x - left :][: part.shape[0], : part.shape[1]] = part[
                        : TILE - y + top, : TILE - x + left
                    ]
            name = tile.tobytes()
            if name not in written:
                data = zlib.compress(name, 6)
                written[name] = (file.tell(), len(data))
                file.write(data)
            places.append(written[name])
    return side, [p[0] for p in places], [p[1] for p in places]


def write_directory(file, side: int, offsets, sizes, more) -> int:
    """One image file directory; its place in the file."""
    tags = {
        256: (LONG, [side]),
        257: (LONG, [side]),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, [8]),
        262: (SHORT, [2]),
        277: (SHORT, [3]),
        284: (SHORT, [1]),
        322: (LONG, [TILE]),
        323: (LONG, [TILE]),
        324: (LONG8, offsets),
        325: (LONG, sizes),
        **more,
    }
    code = {SHORT: "H", LONG: "I", LONG8: "Q", RATIONAL: "I"}
    entries = []
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"<{len(values)}{code[kind]}", *values)
        count = len(values) // 2 if kind == RATIONAL else len(values)
        if len(data) > 8:
            place = file.tell()
            file.write(data)
            data = struct.pack("<Q", place)
        entries.append(struct.pack("<HHQ8s", tag, kind, count, data))
    place = file.tell()
    file.write(struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", 0))
    return place


def search(path: Path, seconds: float) -> dict[str, object]:
    """Search in this process; the peak is that of the process."""
    from cellkin.core.kept import Jobs
    from cellkin.smear.finding import searched
    from cellkin.smear.writing import in_json

    started, reached = time.process_time(), [0, 1]

    def tell(task: str, done: int, total: int) -> None:
        reached[:] = [done, total]
        if seconds and time.process_time() - started > seconds:
            raise TimeoutError

    cells, out = 0, path.with_suffix(".json")
    try:
        with searched([path], jobs=Jobs(out=out), progress=tell) as found:
            (one,) = found
            cells = len(one.cells)
            out.write_text("".join(in_json([one])))
    except TimeoutError:
        out.with_name(out.name + ".part").unlink()
    spent = time.process_time() - started
    side = write_side(path)
    pixels = side**2 / 1e6 * (1 if cells else reached[0] / reached[1])
    return {
        "side": side,
        "whole": bool(cells),
        "done": reached[0] / reached[1],
        "seconds": round(spent, 1),
        "megapixels_per_second": round(pixels / spent, 1),
        "cells": cells,
        "cells_per_second": round(cells / spent, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "file_mib": round(path.stat().st_size / 2**20, 1),
    }


def write_side(path: Path) -> int:
    from cellkin.smear.field import Field

    with Field(path) as field:
        return field.width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(search(given.one, given.seconds)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for side in given.sides:  # each in a process of its own, for its peak
        path = given.folder / f"slide-{side}.tif"
        write_slide(path, side)
        command = [sys.executable, __file__, str(given.folder), "--one", str(path)]
        command += ["--seconds", str(given.seconds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr)
    print(json.dumps({"um_per_pixel": UM, "full": FULL, "slides": rows}))


if __name__ == "__main__":
    main()
