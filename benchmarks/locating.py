"""How long `cellkin locate` takes, and how often it is right, on drawn fields.

    python benchmarks/locating.py           a few small fields, under a minute
    python benchmarks/locating.py --full    260 crops, 108 fields of 2592 x 1944
    python benchmarks/locating.py --full --fields 12
                                            260 crops of full size against fewer fields

Two rounds over the same fields: crops cut as they are and sought so (one scale, one orientation);
crops resampled by 0.8 to 1.25, turned, mirrored, brightened and saved as JPEG, sought in all poses.
One crop in thirteen comes from a field that is not there. Times are CPU seconds of this process
(all threads) and seconds on the clock. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cellkin import datasets
from cellkin.core.arrays import Bytes
from cellkin.datasets.locating.locating import Located, Location
from cellkin.drawing import scene
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.drawn import subject_style
from cellkin.drawing.scene import WHITE_CELLS

SCALE = 13.0  # pixels per micrometre
SIDE = 257


@dataclass(frozen=True)
class Truth:
    field: str | None
    box: tuple[int, int, int, int]


def draw_field(rng: np.random.Generator, width: int, height: int) -> Bytes:
    """A drawn field of red cells and a few white ones: (height, width, 3) uint8 RGB."""
    white = max(2, int(width * height / SCALE**2 / 2500))
    kinds = [sorted(WHITE_CELLS)[i] for i in rng.integers(len(WHITE_CELLS), size=white)]
    canvas = Canvas((height, width), SCALE)
    return scene.draw_field(kinds, rng, subject_style(rng), canvas)[0]


def cut(
    field: Bytes, rng: np.random.Generator, posed: bool
) -> tuple[Bytes, tuple[int, int, int, int]]:
    """A crop and the box it came from."""
    side = round(SIDE / rng.uniform(0.8, 1.25)) if posed else SIDE
    left, top = (int(rng.integers(0, n - side)) for n in (field.shape[1], field.shape[0]))
    part = field[top : top + side, left : left + side]
    if posed:
        method = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
        part = np.asarray(cv2.resize(part, (SIDE, SIDE), interpolation=method), np.uint8)
        part = np.rot90(part[:, ::-1] if rng.random() < 0.5 else part, rng.integers(4))
        part = np.clip(rng.uniform(0.9, 1.1) * part + rng.uniform(-5, 5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(part), (left, top, left + side, top + side)


def write(path: Path, rgb: Bytes, quality: int) -> None:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def draw(
    folder: Path, fields: int, crops: int, size: tuple[int, int]
) -> dict[str, dict[str, Truth]]:
    """Fields, and crops of both rounds; what is true of every crop."""
    truth: dict[str, dict[str, Truth]] = {"same": {}, "all": {}}
    strangers = max(1, fields // 13)
    each = -(-crops // (fields + strangers))
    for number in range(fields + strangers):
        rng = np.random.default_rng([7, number])
        field = draw_field(rng, *size)
        there = number < fields
        if there:
            write(folder / "fields" / f"F{number:03d}.jpg", field, 92)
        for at in range(each):
            for how in truth:
                crop, box = cut(field, rng, posed=how == "all")
                name = f"C{number:03d}-{at}.jpg"
                if len(truth[how]) < crops:
                    write(folder / how / name, crop, 85 if how == "all" else 92)
                    truth[how][name] = Truth(f"F{number:03d}.jpg" if there else None, box)
    return truth


def right(location: Location, truth: Truth) -> bool:
    """Found within 2 pixels, or rightly not found."""
    if truth.field is None:
        return location.state == "none"
    hit = location.hit
    if hit is None or location.field != truth.field:
        return False
    told = (hit.left, hit.top, hit.right, hit.bottom)
    return max(abs(a - b) for a, b in zip(told, truth.box, strict=True)) <= 2


def measure(folder: Path, how: str, truth: dict[str, Truth]) -> tuple[Located, dict[str, float]]:
    cpu, clock = time.process_time(), time.perf_counter()
    wide = how == "all"
    located = datasets.locate(
        folder / how,
        folder / "fields",
        scales=(0.8, 1.25) if wide else (1, 1),
        all_orientations=wide,
    )
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    inside = [p for p in located.crops if truth[p.crop].field is not None]
    outside = [p for p in located.crops if truth[p.crop].field is None]
    return located, {
        "cpu_seconds": cpu,
        "clock_seconds": clock,
        "found_within_2_pixels": sum(right(p, truth[p.crop]) for p in inside) / len(inside),
        "lowest_true_score": min(p.score for p in inside),
        "strangers": len(outside),
        "strangers_given_a_field": sum(p.state != "none" for p in outside),
        "highest_stranger_score": max((p.score for p in outside), default=0.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the size of ALL-IDB1 and ALL-IDB2")
    parser.add_argument("--fields", type=int, help="another number of fields")
    given = parser.parse_args()
    fields, crops, size = (108, 260, (2592, 1944)) if given.full else (8, 36, (1000, 800))
    fields = given.fields or fields
    with tempfile.TemporaryDirectory() as name:
        truth = draw(Path(name), fields, crops, size)
        print(f"{fields} fields of {size[0]} x {size[1]}, {crops} crops drawn", flush=True)
        result: dict[str, object] = {"fields": fields, "crops": crops}
        for how in truth:
            located, figures = measure(Path(name), how, truth[how])
            merged = len(located.groups) - len(set(located.groups.values()))
            print(how, figures, flush=True)
            result |= {f"{how}_{key}": round(value, 3) for key, value in figures.items()}
            result[f"{how}_fields_merged"] = merged
    print(json.dumps(result))


if __name__ == "__main__":
    main()
