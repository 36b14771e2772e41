"""Layout `adp`: tissue-like textures with the table of the Atlas of Digital Pathology.

For the layout only: the textures can be told apart, and no pathologist would take them for tissue.
A patch shows one or two of them on either side of a wavy line; its row of the table says which, by
9, 26 and 38 codes on three levels, where each level keeps the codes of the levels above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cellkin.core.arrays import Bytes, Singles
from cellkin.drawing.camera import SubjectStyle, subject_style
from cellkin.drawing.canvas import Rng, smooth_noise, step
from cellkin.drawing.plan import (
    Layout,
    Order,
    Progress,
    check_order,
    describe,
    generator,
    save_picture,
    write_rows,
)

TABLE = "ADP_EncodedLabels_Release1_Flat.csv"
LEVELS = (
    "E C H S A M N G T",
    "E.M E.T E.P C.D C.L H.E H.K H.Y S.M S.C A.W A.M M.M N.P N.R G.O G.N",
    "E.M.S E.M.U E.M.O E.T.S E.T.U E.T.O C.D.I C.D.R S.M.C S.M.S N.R.B N.R.A",
)
CODES = tuple(sorted(" ".join(LEVELS).split()))
LEAVES = tuple(c for c in CODES if not any(other.startswith(f"{c}.") for other in CODES))

HAEMATOXYLIN: Singles = np.array([1.0, 1.25, 0.45], np.float32)
EOSIN: Singles = np.array([0.08, 0.75, 0.42], np.float32)

Texture = Callable[[Rng, int], tuple[Singles, Singles]]


@dataclass(frozen=True)
class _Cells:
    """Nuclei: how many on a patch, their half axes as shares of its side, and their direction."""

    count: int
    long: float
    short: float
    turn: float | None = None


def _nuclei(rng: Rng, side: int, cells: _Cells, xy: Singles | None = None) -> Singles:
    """Amount (side, side) of haematoxylin."""
    places = rng.uniform(0, side, (cells.count, 2)) if xy is None else xy
    plane = np.zeros((side, side), np.uint8)
    for x, y in places.tolist():
        turn = cells.turn if cells.turn is not None else float(rng.uniform(0, np.pi))
        size = side * rng.uniform(0.75, 1.25) * np.array([cells.long, cells.short])
        box = ((float(x), float(y)), (2 * float(size[0]), 2 * float(size[1])), np.degrees(turn))
        cv2.ellipse(plane, box, int(rng.integers(150, 256)), -1, cv2.LINE_AA)
    speckle = 1 + 0.25 * smooth_noise(rng, (side, side), side / 90)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), side / 300) / np.float32(255) * speckle)


def _fibres(rng: Rng, side: int, turn: float, stretch: float) -> Singles:
    """Noise drawn out along a direction, with gentle waves."""
    noise = smooth_noise(rng, (2 * side, 2 * side), side / 40)
    x, y = np.meshgrid(*2 * [np.arange(side, dtype=np.float32) - side / 2])
    bend = side / 40 * smooth_noise(rng, (side, side), side / 3)
    along = (np.cos(turn) * x + np.sin(turn) * y) / stretch
    across = np.cos(turn) * y - np.sin(turn) * x + bend
    places = [np.asarray(plane + side, np.float32) for plane in (along, across)]
    sampled = cv2.remap(
        noise, places[0], places[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(sampled, np.float32)


def _epithelium(rng: Rng, side: int) -> tuple[Singles, Singles]:
    eosin = 0.35 + 0.08 * smooth_noise(rng, (side, side), side / 30)
    return _nuclei(rng, side, _Cells(110, 0.026, 0.02)), eosin


def _connective(rng: Rng, side: int) -> tuple[Singles, Singles]:
    turn = float(rng.uniform(0, np.pi))
    eosin = 0.42 + 0.22 * _fibres(rng, side, turn, 7)
    return _nuclei(rng, side, _Cells(18, 0.03, 0.008, turn)), eosin


def _blood(rng: Rng, side: int) -> tuple[Singles, Singles]:
    discs = np.clip(_nuclei(rng, side, _Cells(150, 0.03, 0.028)), 0, 1)
    return _nuclei(rng, side, _Cells(6, 0.022, 0.02)), np.asarray(0.04 + 1.1 * discs)


def _walls(rng: Rng, side: int, count: int, width: float) -> Singles:
    """Share (side, side) of thin walls between `count` bubbles."""
    seeds = rng.uniform(0, side, (count, 2)).astype(np.float32)
    x, y = np.meshgrid(*2 * [np.arange(side, dtype=np.float32)])
    far = np.sort(np.stack([np.hypot(x - a, y - b) for a, b in seeds]), axis=0)
    return np.asarray(1 - step(far[1] - far[0], 0.3 * width * side, width * side))


def _adipose(rng: Rng, side: int) -> tuple[Singles, Singles]:
    walls = _walls(rng, side, 16, 0.025)
    return _nuclei(rng, side, _Cells(14, 0.018, 0.008)) * walls, 0.5 * walls


def _muscle(rng: Rng, side: int) -> tuple[Singles, Singles]:
    turn = float(rng.uniform(0, np.pi))
    eosin = 0.75 + 0.2 * _fibres(rng, side, turn, 25)
    return _nuclei(rng, side, _Cells(22, 0.035, 0.009, turn)), eosin


def _skeletal(rng: Rng, side: int) -> tuple[Singles, Singles]:
    eosin = 0.85 + 0.05 * _fibres(rng, side, float(rng.uniform(0, np.pi)), 12)
    holes = _nuclei(rng, side, _Cells(16, 0.03, 0.017))
    return 0.75 * holes + 0.08, eosin * (1 - 0.4 * np.clip(holes, 0, 1))


def _nervous(rng: Rng, side: int) -> tuple[Singles, Singles]:
    eosin = 0.3 + 0.06 * smooth_noise(rng, (side, side), side / 70)
    return _nuclei(rng, side, _Cells(20, 0.02, 0.018)), eosin


def _rings(rng: Rng, side: int) -> tuple[Singles, Singles]:
    """Glands and vessels: a clear middle, nuclei in a ring around it."""
    hema, eosin = _connective(rng, side)
    x, y = np.meshgrid(*2 * [np.arange(side, dtype=np.float32)])
    for a, b in rng.uniform(0.1, 0.9, (4, 2)) * side:
        reach, turns = side * float(rng.uniform(0.07, 0.13)), rng.uniform(0, 2 * np.pi, 26)
        away = np.hypot(x - a, y - b)
        inside = 1 - step(away, 1.05 * reach, 1.35 * reach)
        hollow = 1 - step(away, 0.5 * reach, 0.62 * reach)
        ring = np.stack([a + reach * np.cos(turns), b + reach * np.sin(turns)], axis=1)
        hema = hema * (1 - inside) + _nuclei(rng, side, _Cells(26, 0.016, 0.012), ring)
        eosin = (eosin * (1 - inside) + 0.5 * inside) * (1 - 0.95 * hollow)
    return hema, eosin


TEXTURES: dict[str, Texture] = {
    "E": _epithelium,
    "C": _connective,
    "H": _blood,
    "S": _skeletal,
    "A": _adipose,
    "M": _muscle,
    "N": _nervous,
    "G": _rings,
    "T": _rings,
}


def _patch(codes: tuple[str, ...], rng: Rng, style: SubjectStyle, side: int) -> tuple[Bytes, Bytes]:
    """A patch (side, side, 3) of one or two tissues, and which of them lies on each pixel."""
    layers = [TEXTURES[code[0]](rng, side) for code in codes]
    part = np.zeros((side, side), np.float32)
    if len(layers) == 2:
        x, y = np.meshgrid(*2 * [np.linspace(-1, 1, side, dtype=np.float32)])
        turn = float(rng.uniform(0, 2 * np.pi))
        line = (
            np.cos(turn) * x + np.sin(turn) * y + 0.15 * smooth_noise(rng, (side, side), side / 4)
        )
        part = step(line, -0.03, 0.03)
    hema, eosin = (
        np.clip((1 - part) * first + part * last, 0, 3)
        for first, last in zip(layers[0], layers[-1], strict=True)
    )
    density = hema[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN
    light = np.exp(-density * style.absorbance[1, 0]) * style.light * 255
    noise = rng.standard_normal((side, side, 1), np.float32) * style.noise
    return np.clip(light + noise, 0, 255).astype(np.uint8), (part >= 0.5).astype(np.uint8) + 1


def _row(codes: tuple[str, ...]) -> list[int]:
    return [int(any(leaf == c or leaf.startswith(f"{c}.") for leaf in codes)) for c in CODES]


def _write(folder: Path, order: Order, progress: Progress | None) -> None:
    (folder / "img").mkdir()
    styles = [subject_style(generator(order.seed, 1, n)) for n in range(order.subjects)]
    leaves = generator(order.seed, 0).permutation(LEAVES).tolist()
    rows = []
    for number in range(order.cells):
        rng, slide = generator(order.seed, 3, number), number % order.subjects
        second = [str(rng.choice(LEAVES))] if rng.random() < 0.5 else []
        codes = tuple(dict.fromkeys([leaves[number % len(leaves)], *second]))
        name = f"{slide + 1:03d}.png_crop_{number // order.subjects + 1}.png"
        save_picture(folder, f"img/{name}", *_patch(codes, rng, styles[slide], order.size))
        rows.append([name, *_row(codes)])
        if progress is not None:
            progress(number + 1, order.cells)
    write_rows(folder / TABLE, ["Patch Names", *CODES], rows)
    name = "drawn tissue-like textures laid out as ADP"
    describe(folder, order.seed, name, what="tissue", stain="H&E")


def _check(order: Order) -> None:
    check_order(order, subjects=1)


ADP = Layout(272, _check, _write)
