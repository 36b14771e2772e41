"""How well a finder finds: `measure.py WEIGHTS DATA [SET ...]`, on pictures held back."""

from __future__ import annotations

import csv
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import library
import numpy as np
import torch
import train
from drawn_fields import drawn_field

from cellkin.imaging.stain import nuclei
from cellkin.learning.memory import keep_freed_memory
from cellkin.smear.field import Field
from cellkin.smear.finding import find
from cellkin.smear.fitting import matched
from cellkin.smear.network import FinderNetwork
from cellkin.smear.scenes import Painter
from cellkin.smear.varying import SceneOptions


def bccd(data):
    for path in sorted((data / "bccd" / "Annotations").glob("*.xml")):
        if library.part(path.stem):
            boxes = [
                [float(o.find("bndbox").find(k).text) for k in ("xmin", "ymin", "xmax", "ymax")]
                for o in ET.parse(path).getroot().iter("object")
                if o.find("name").text == "WBC"
            ]
            yield data / "bccd" / "JPEGImages" / f"{path.stem}.jpg", boxes, True, 100


def aslan(data):
    rows = {}
    with (data / "aslan" / "annotations.csv").open() as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["image"], [])
            if row["label"] == "wbc":
                rows[row["image"]].append(
                    [256 * float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax")]
                )
    for name, boxes in sorted(rows.items()):
        if library.part(name):
            yield data / "aslan" / "images" / name, boxes, True, 62


def chula(data):
    slides = library.chula_slides(data)
    for name, relative in sorted(library.chula_boxes(data).items()):
        if library.part(slides.get(Path(name).stem, name)):
            boxes = [
                [1440 * (x - w / 2), 900 * (y - h / 2), 1440 * (x + w / 2), 900 * (y + h / 2)]
                for x, y, w, h in relative
            ]
            yield data / "chula" / name, boxes, False, 75


def drawn(data):
    for seed in range(4):
        shape, scale = (((1368, 1712), 11.0), ((1944, 2592), 16.0))[seed % 2]
        rgb, placed, red = drawn_field([1000, seed], shape, scale, 20 + 12 * seed)
        path = Path(tempfile.gettempdir()) / f"finder_drawn_{seed}.png"
        if not path.exists():
            cv2.imwrite(str(path), rgb[..., ::-1])
        yield path, [c.box for c in placed], True, red


def pasted(data):
    """Cells held back, pasted in dense clumps into fields held back, in other stains and sizes."""
    held = train.painter(data, held=True)
    options = SceneOptions(size=640, zoom=0.4, pasted=1.0, blank=0.0)
    painter = Painter(held.fields, held.cells, {**train.SHARES, "chula": 0.0}, options)
    for seed in range(16):
        made = painter.paint(np.random.default_rng([31, seed]))
        path = Path(tempfile.gettempdir()) / f"finder_pasted_{seed}.png"
        cv2.imwrite(str(path), made.rgb[..., ::-1])
        known = cv2.resize(
            made.known[0].astype(np.uint8), (640, 640), interpolation=cv2.INTER_NEAREST
        )
        yield path, made.boxes[made.kinds == 0], known, 24


SETS = {"pasted": pasted, "bccd": bccd, "aslan": aslan, "chula": chula, "drawn": drawn}


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    weights, data = Path(sys.argv[1]), Path(sys.argv[2])
    network = FinderNetwork.open(weights)
    out = Path(tempfile.gettempdir()) / "finder-looks"
    out.mkdir(exist_ok=True)
    for name in sys.argv[3:] or SETS:
        total = {"finder": np.zeros(3), "stain": np.zeros(3)}
        seconds, scales, wrong = 0.0, [], []
        for path, boxes, complete, red in SETS[name](data):
            start = time.process_time()
            found = find(path, finder=network)
            with Field(path) as field:
                rgb = field.read()
            seconds += time.process_time() - start
            scales.append(red / 24 / found.downsample)
            whites = [c for c in found.cells if c.kind in ("white cell", "border")]
            stained = nuclei(rgb, least_radius=0.24 * red)
            if not isinstance(complete, bool):  # a map of what is known
                whites = [c for c in whites if complete[min(int(c.y), 639), min(int(c.x), 639)]]
                stained = [n for n in stained if complete[int(n.y), int(n.x)]]
                complete = True
            for key, middles in (
                ("finder", [(c.x, c.y) for c in whites]),
                ("stain", [(n.x, n.y) for n in stained]),
            ):
                hits = len(matched(middles, boxes))
                total[key] += [hits, len(boxes), len(middles) if complete else hits]
                if key == "finder" and (hits < len(boxes) or (complete and len(middles) > hits)):
                    wrong.append(
                        (
                            path.stem,
                            len(boxes) - hits,
                            len(middles) - hits if complete else 0,
                            round(scales[-1], 2),
                        )
                    )
                    picture(rgb, boxes, found.cells, out / f"{name}_{path.stem}.jpg")
        for key, (hits, there, said) in total.items():
            recall, precision = hits / there, hits / max(said, 1)
            print(f"{name} {key}: recall {recall:.3f} of {there:.0f}", end=", ")
            print(f"precision {precision:.3f} of {said:.0f}")
        spread = np.percentile(scales, [0, 10, 50, 90, 100]).round(2)
        print(
            f"   scale {spread}, {seconds / len(scales):.2f} s a field; wrong {wrong}", flush=True
        )


def picture(rgb, boxes, cells, path):
    """The field with marks in green and findings by kind, for looking at."""
    image = rgb[..., ::-1].copy()
    thick = max(image.shape[0] // 350, 1)
    for left, top, right, bottom in np.int32(np.round(boxes)).tolist():
        cv2.rectangle(image, (left, top), (right, bottom), (0, 160, 0), thick)
    colours = {
        "white cell": (0, 0, 255),
        "border": (255, 0, 255),
        "smudge": (0, 160, 255),
        "platelet": (255, 120, 0),
        "artefact": (0, 0, 0),
    }
    for c in cells:
        box = [round(v) for v in (c.left, c.top, c.right, c.bottom)]
        cv2.rectangle(image, tuple(box[:2]), tuple(box[2:]), colours[c.kind], thick)
        cv2.putText(
            image,
            f"{c.score:.2f}",
            (box[0], box[1] + 12 * thick),
            0,
            0.4 * thick,
            colours[c.kind],
            thick,
        )
    cv2.imwrite(
        str(path),
        cv2.resize(
            image,
            None,
            fx=900 / image.shape[1],
            fy=900 / image.shape[1],
            interpolation=cv2.INTER_AREA,
        ),
    )


if __name__ == "__main__":
    main()
