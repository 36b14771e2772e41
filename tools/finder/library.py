"""The pictures that the packaged finder learns from: real fields with their marks, real cells cut
out, and drawn fields, all in one even light and at one scale.
"""

from __future__ import annotations

import csv
import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from drawn_fields import drawn_field

from cellkin.imaging.decode import decode
from cellkin.imaging.stain import DOUBTFUL, nuclear_stain
from cellkin.smear.light import WHITE, Light
from cellkin.smear.scenes import CutCell, Marked

SCALE = 0.2
"""Micrometres per pixel at which everything is kept: a red cell measures 36 pixels."""
RED_CELL = 7.2  # micrometres
CHULA, PBC = 7.2 / 75, 7.2 / 63  # micrometres per pixel of the publishers, by red cells
KINDS = {"WBC": 0, "wbc": 0, "smudge": 1, "Platelets": 2, "artefact": 3, "RBC": 4, "rbc": 4}
ALL = (True,) * 5


def part(name: str, rest: int = 5) -> bool:
    """Whether a file is held back: one in `rest`, by its name alone."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % rest == 0


def in_even_light(rgb, light=None):
    light = light or Light.of(rgb)
    if light is not None:
        return light.whole(rgb)
    return in_one_white(rgb)


def in_one_white(rgb):
    """The field as if its brightest twentieth were the ground."""
    white = np.percentile(rgb.reshape(-1, 3)[::7], 95, axis=0)
    return np.clip(rgb * (WHITE / np.maximum(white, 1)), 0, 255).astype(np.uint8)


def scaled(rgb, boxes, um, known=ALL, kinds=None, unknown=()):
    """A marked picture at `SCALE`."""
    factor = um / SCALE
    size = (max(round(rgb.shape[1] * factor), 8), max(round(rgb.shape[0] * factor), 8))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * factor
    unknown = np.asarray(unknown, np.float32).reshape(-1, 4) * factor
    kinds = np.zeros(len(boxes), int) if kinds is None else np.asarray(kinds, int)
    return Marked(small, SCALE, boxes, kinds, unknown, known)


def bccd(data: Path) -> Iterator[tuple[str, Marked, float]]:
    """Fields of BCCD with boxes of all cells; the scale by the red cells' own boxes."""
    for path in sorted((data / "bccd" / "Annotations").glob("*.xml")):
        boxes, kinds = [], []
        for found in ET.parse(path).getroot().iter("object"):
            box = found.find("bndbox")
            boxes.append([float(box.find(k).text) for k in ("xmin", "ymin", "xmax", "ymax")])
            kinds.append(KINDS[found.find("name").text])
        rgb = decode(data / "bccd" / "JPEGImages" / f"{path.stem}.jpg")
        um = scale_by_boxes(boxes, kinds, rgb.shape, 100)
        yield path.stem, scaled(in_one_white(rgb), boxes, um, kinds=kinds), um


def scale_by_boxes(boxes, kinds, shape, usual):
    whole = [
        max(right - left, bottom - top)
        for (left, top, right, bottom), kind in zip(boxes, kinds, strict=True)
        if kind == 4 and left > 3 and top > 3 and right < shape[1] - 3 and bottom < shape[0] - 3
    ]
    return RED_CELL / (np.median(whole) if len(whole) >= 4 else usual)


def aslan(data: Path) -> Iterator[tuple[str, Marked, float]]:
    rows: dict[str, list] = {}
    with (data / "aslan" / "annotations.csv").open() as file:
        for row in csv.DictReader(file):
            box = [float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax")]
            rows.setdefault(row["image"], []).append((box, KINDS[row["label"]]))
    for name, found in sorted(rows.items()):
        rgb = decode(data / "aslan" / "images" / name)
        boxes, kinds = [np.array(b) * rgb.shape[0] for b, _ in found], [k for _, k in found]
        um = scale_by_boxes(boxes, kinds, rgb.shape, 62)
        known = (True, True, False, True, True)  # platelets are not marked
        yield name, scaled(in_one_white(rgb), boxes, um, known, kinds), um


def chula_slides(data: Path) -> dict[str, str]:
    with (data / "chula" / "cells" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {Path(row["file"]).stem.rsplit("_", 1)[0]: row["group"] for row in rows}


def chula_boxes(data: Path) -> dict[str, list]:
    boxes: dict[str, list] = {}
    with (data / "chula" / "boxes.csv").open() as file:
        for row in csv.DictReader(file):
            boxes.setdefault(row["field"], []).append(
                [float(row[k]) for k in ("cx", "cy", "w", "h")]
            )
    return boxes


def chula(data: Path) -> Iterator[tuple[str, Marked, float]]:
    """Fields of Chula: the named cell is marked; other stretches of stain are not known."""
    for name, relative in sorted(chula_boxes(data).items()):
        rgb = in_even_light(decode(data / "chula" / name))
        boxes = [
            np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            * [rgb.shape[1], rgb.shape[0], rgb.shape[1], rgb.shape[0]]
            for x, y, w, h in relative
        ]
        unknown = [
            [n.x - 3 * n.radius, n.y - 3 * n.radius, n.x + 3 * n.radius, n.y + 3 * n.radius]
            for n in stretches(rgb, 1.6 / CHULA)
            if not any(a < n.x < c and b < n.y < d for a, b, c, d in boxes)
        ]
        known = (True, True, False, True, False)
        yield name, scaled(rgb, boxes, CHULA, known, unknown=unknown), CHULA


def stretches(rgb, radius):
    """Everything that might be a nucleus, pale ones as well."""
    factor = 8.0 / radius
    small = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    stain = cv2.GaussianBlur(nuclear_stain(small), (0, 0), 2)
    _, _, stats, middles = cv2.connectedComponentsWithStats(
        (stain > 0.7 * DOUBTFUL).astype(np.uint8)
    )
    found = []
    for (x, y), area in zip(middles[1:], stats[1:, 4], strict=True):
        if area > 0.5 * np.pi * 64:
            found.append(_Stretch(x / factor, y / factor, np.sqrt(area / np.pi) / factor))
    return found


class _Stretch:
    def __init__(self, x, y, radius):
        self.x, self.y, self.radius = x, y, radius


def pbc(data: Path, folder: str, per_class: int) -> Iterator[tuple[str, Marked, CutCell | None]]:
    """Pictures of single cells on their own ground: small fields with one cell in the middle."""
    for kind in sorted(p for p in (data / folder).iterdir() if p.is_dir()):
        files = sorted(kind.glob("*.jpg")) + sorted(kind.glob("*.png"))
        files.sort(key=lambda p: hashlib.sha256(p.name.encode()).hexdigest())
        for path in files[:per_class]:
            made = single_cell(decode(path), kind.name == "platelet")
            if made is not None:
                yield f"{kind.name}/{path.name}", *made


def single_cell(rgb, platelet: bool) -> tuple[Marked, CutCell | None] | None:
    small = in_one_white(scaled(rgb, [], PBC).rgb)  # its light is even
    height, width = small.shape[:2]
    stain = cv2.GaussianBlur(nuclear_stain(small), (0, 0), 1)
    _, _, stats, middles = cv2.connectedComponentsWithStats((stain > DOUBTFUL).astype(np.uint8))
    boxes, kinds, unknown = [], [], []
    cut = None
    if not platelet:
        cut = cut_out(small, stain)
        if cut is None:
            return None
        boxes.append(cut.box)
        kinds.append(0)
    for (left, top, w, h, area), (x, y) in zip(stats[1:].tolist(), middles[1:], strict=True):
        if (
            boxes
            and boxes[0][0] - 3 < x < boxes[0][2] + 3
            and boxes[0][1] - 3 < y < boxes[0][3] + 3
        ):
            continue
        box = [left - 2, top - 2, left + w + 2, top + h + 2]
        at_border = left <= 1 or top <= 1 or left + w >= width - 1 or top + h >= height - 1
        radius = np.sqrt(area / np.pi) * SCALE
        if radius < 0.4:
            continue
        if at_border or radius > (3.2 if platelet else 1.7):
            unknown.append([left - 15, top - 15, left + w + 15, top + h + 15])
        else:
            boxes.append(box)
            kinds.append(2)
    return Marked(
        small,
        SCALE,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(kinds, int),
        np.array(unknown, np.float32).reshape(-1, 4),
        (True, True, True, True, False),
    ), cut


def cut_out(rgb, stain) -> CutCell | None:
    """The white cell in the middle, by watershed from its nucleus; at `SCALE`."""
    height, width = rgb.shape[:2]
    count, parts, stats, middles = cv2.connectedComponentsWithStats(
        cv2.morphologyEx(
            (stain > DOUBTFUL).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)
        )
    )
    best, most = 0, 0.0
    for k in range(1, count):
        far = np.hypot(middles[k][0] - width / 2, middles[k][1] - height / 2) * SCALE
        value = stats[k][4] * np.exp(-((far / 5) ** 2))
        if stats[k][4] * SCALE**2 > 8 and value > most:
            best, most = k, value
    if not best:
        return None
    nucleus = (parts == best).astype(np.uint8)
    density = -np.log(np.minimum((rgb.astype(np.float32) + 1) / WHITE, 1))
    away = cv2.distanceTransform(1 - nucleus, cv2.DIST_L2, 5) * SCALE
    ground = cv2.GaussianBlur(density.sum(2), (0, 0), 1) < 0.16
    red = (density[..., 2] > 0.62 * density[..., 1]) & (density[..., 0] < 0.5 * density[..., 1])
    markers = np.zeros((height, width), np.int32)
    markers[(away > 6.5) | (ground & (away > 0.6)) | (red & (away > 2.0))] = 1
    markers[away < 0.3] = 2
    smooth = cv2.GaussianBlur(rgb, (0, 0), 1)
    cv2.watershed(smooth, markers)
    body = cv2.morphologyEx((markers == 2).astype(np.uint8), cv2.MORPH_OPEN, disc(5))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(body)
    if count < 2:
        return None
    best = 1 + int(
        np.argmax([np.count_nonzero((parts == k) & (nucleus > 0)) for k in range(1, count)])
    )
    body = cv2.dilate((parts == best).astype(np.uint8), disc(3))
    left, top, w, h = cv2.boundingRect(body)
    if left <= 0 or top <= 0 or left + w >= width or top + h >= height:
        return None
    if not 6 < SCALE * np.sqrt(4 * stats[best][4] / np.pi) < 24:
        return None
    place = (slice(top, top + h), slice(left, left + w))
    return CutCell(rgb[place].copy(), body[place] * 255, SCALE, (left, top, left + w, top + h))


def disc(side):
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def cnmc(data: Path) -> Iterator[tuple[str, str, CutCell]]:
    """C-NMC's cells, which come cut out on black: name, subject, cell."""
    for path in sorted((data / "cnmc2019").rglob("*.png")):
        rgb = decode(path)
        body = (rgb.max(axis=2) > 8).astype(np.uint8)
        left, top, w, h = cv2.boundingRect(body)
        place = (slice(top, top + h), slice(left, left + w))
        factor = 12.0 / SCALE / max(w, h)  # about 12 micrometres; the painter varies it
        size = (max(round(w * factor), 4), max(round(h * factor), 4))
        small = cv2.resize(rgb[place], size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(body[place] * 255, size, interpolation=cv2.INTER_AREA)
        lit = np.clip(small.astype(np.float32) * (WHITE / 255), 0, 255).astype(np.uint8)
        yield path.name, path.name.split("_")[1], CutCell(lit, alpha, SCALE, (0, 0, *size))


def drawn(count: int) -> Iterator[Marked]:
    """Drawn fields of touching cells, at `SCALE`; red cells and platelets are not marked."""
    for seed in range(count):
        rgb, placed, _ = drawn_field([1, seed], (480, 600), 1 / SCALE, 6 + seed % 25)
        boxes = np.array([cell.box for cell in placed], np.float32).reshape(-1, 4)
        known = (True, True, False, True, False)
        nothing = np.zeros((0, 4), np.float32)
        yield Marked(in_one_white(rgb), SCALE, boxes, np.zeros(len(boxes), int), nothing, known)
