"""Granulocytes, monocytes and what else a smear of blood may show beside lymphoid cells."""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Singles
from cellkin.drawing.canvas import EOSIN, NUCLEAR, Rng, Spot, notched, outline, scattered
from cellkin.drawing.elements import Chromatin, Cytoplasm, Granules, Part, WhiteCell
from cellkin.drawing.lymphoid import aside, bent

Links = tuple[tuple[float, float, float, float, float], ...]


def neutrophil(rng: Rng) -> WhiteCell:
    """Nucleus of two to five lobes on a bow, joined by filaments; pale pink dusty body."""
    radius = float(np.clip(rng.normal(6.7, 0.5), 5.6, 7.8))
    count = int(rng.choice([2, 3, 4, 5], p=[0.15, 0.4, 0.33, 0.12]))
    turn = rng.uniform(2.6, 4.4) if count > 2 else rng.uniform(1.6, 2.4)
    lobes, links = _bow(rng, radius, count, turn)
    return WhiteCell(
        radii=outline(rng, radius, 0.03, abs(rng.normal(0, 0.04))),
        lobes=lobes,
        links=links,
        chromatin=Chromatin(rng.normal(1.02, 0.08), rng.uniform(0.4, 0.65), 0.05, 0.7),
        cytoplasm=Cytoplasm(rng.uniform(0.0, 0.12), rng.uniform(0.5, 0.9), rng.uniform(0.4, 1.0)),
    )


def _bow(rng: Rng, radius: float, count: int, turn: float) -> tuple[tuple[Part, ...], Links]:
    """Lobes along an arc of `turn` radians around the cell's centre, each joined to the next."""
    bow = rng.uniform(0, 2 * np.pi) + np.linspace(0, turn, count) + rng.normal(0, 0.1, count)
    reach = radius * rng.uniform(0.42, 0.52) * rng.uniform(0.85, 1.15, count)
    xs, ys = (reach * np.cos(bow)).tolist(), (reach * np.sin(bow)).tolist()
    sizes = radius * rng.uniform(0.85, 1.18, count) * (0.5 - 0.044 * count)
    parts = [outline(rng, size, 0.08, rng.uniform(0.05, 0.24)) for size in sizes.tolist()]
    links = tuple(
        (xs[i], ys[i], xs[i + 1], ys[i + 1], rng.uniform(0.25, 0.9)) for i in range(count - 1)
    )
    return tuple(zip(xs, ys, parts, strict=True)), links


def eosinophil(rng: Rng) -> WhiteCell:
    """Two lobes like spectacles; a body full of round, brick to orange granules."""
    radius = float(np.clip(rng.normal(6.9, 0.45), 5.8, 8.0))
    count = int(rng.choice([2, 3], p=[0.85, 0.15]))
    lobes, links = _bow(rng, 1.12 * radius, count, rng.uniform(1.5, 2.3))
    return WhiteCell(
        radii=outline(rng, radius, 0.025, abs(rng.normal(0, 0.04))),
        lobes=lobes,
        links=links,
        chromatin=Chromatin(rng.normal(0.95, 0.07), rng.uniform(0.4, 0.6), 0.05, 0.75),
        cytoplasm=Cytoplasm(
            rng.uniform(0.0, 0.1),
            rng.uniform(0.1, 0.25),
            granules=(Granules(EOSIN, rng.uniform(0.6, 0.85), 0.36, 0.66),),
            eosin=rng.uniform(0.22, 0.34),
        ),
    )


def basophil(rng: Rng) -> WhiteCell:
    """Dark violet granules, coarse and uneven, that hide much of a pale lobed nucleus."""
    radius = float(np.clip(rng.normal(6.2, 0.45), 5.2, 7.3))
    lobes, links = _bow(rng, 1.15 * radius, int(rng.integers(2, 4)), rng.uniform(1.6, 3.0))
    granules = Granules(
        NUCLEAR, rng.uniform(0.55, 0.85), 0.34, 0.74, rng.uniform(0.65, 0.9), over_nucleus=True
    )
    return WhiteCell(
        radii=outline(rng, radius, 0.03, abs(rng.normal(0, 0.04))),
        lobes=lobes,
        links=links,
        chromatin=Chromatin(rng.normal(0.78, 0.05), rng.uniform(0.2, 0.35), 0.05, 0.9),
        cytoplasm=Cytoplasm(rng.uniform(0.2, 0.35), rng.uniform(0.7, 1.1), granules=(granules,)),
    )


def monocyte(rng: Rng) -> WhiteCell:
    """Large: kidney-shaped nucleus with lacy chromatin; grey-blue body with vacuoles."""
    radius = float(np.clip(rng.normal(8.1, 0.6), 6.8, 9.4))
    inner = radius * float(rng.uniform(0.68, 0.76))
    at = rng.uniform(0, 2 * np.pi)
    kidney = notched(
        outline(rng, inner, 0.05, rng.uniform(0.04, 0.14)),
        at,
        rng.uniform(0.3, 0.62),
        rng.uniform(0.35, 0.65),
    )
    if rng.random() < 0.4:
        kidney = bent(rng, kidney, (0.08, 0.2), (0.2, 0.35))
    back = (radius - inner) * rng.uniform(0.35, 0.8)
    vacuoles = scattered(rng, int(rng.integers(0, 16)), 0.92 * radius, (0.22, 0.65))
    return WhiteCell(
        radii=_pushed(rng, outline(rng, radius, 0.07, rng.uniform(0.02, 0.13))),
        lobes=((float(-back * np.cos(at)), float(-back * np.sin(at)), kidney),),
        links=(),
        chromatin=Chromatin(rng.normal(0.72, 0.06), rng.uniform(0.32, 0.46), 0.07, 0.95),
        cytoplasm=Cytoplasm(
            rng.uniform(0.42, 0.62),
            rng.uniform(0.35, 0.6),
            rng.uniform(0.2, 0.6),
            _off_nucleus(vacuoles, (-back * np.cos(at), -back * np.sin(at)), 0.95 * inner),
        ),
        ruffle=0.06 + 0.14 * rng.random(),
    )


def _pushed(rng: Rng, radii: Singles) -> Singles:
    """An outline with a blunt foot or two, as soft cells have between red cells."""
    for _ in range(int(rng.integers(0, 3))):
        radii = notched(
            radii, rng.uniform(0, 2 * np.pi), -rng.uniform(0.06, 0.2), rng.uniform(0.15, 0.45)
        )
    return radii


def _off_nucleus(
    spots: tuple[Spot, ...], at: tuple[float, float], inner: float
) -> tuple[Spot, ...]:
    return tuple(s for s in spots if np.hypot(s[0] - at[0], s[1] - at[1]) > inner - s[2])


def immature_granulocyte(rng: Rng) -> WhiteCell:
    """Promyelocyte to metamyelocyte: large, round to kidney nucleus, violet granules."""
    ripe = rng.random()  # 0 promyelocyte, 1 metamyelocyte
    radius = float(np.clip(rng.normal(8.0 - 0.9 * ripe, 0.5), 6.4, 9.2))
    inner = radius * float((0.66 + 0.1 * (1 - ripe)) * rng.uniform(0.97, 1.03))
    nucleus = outline(rng, inner, 0.03, rng.uniform(0.03, 0.12))
    if ripe > 0.4:
        nucleus = bent(rng, nucleus, (0.1, 0.2 + 0.3 * ripe), (0.35, 0.55))
    nucleoli = scattered(
        rng, int(rng.integers(1, 3)) if ripe < 0.35 else 0, 0.5 * inner, (0.5, 0.8)
    )
    granules = Granules(NUCLEAR, 0.36, 0.2, 0.66, 0.4 + 0.4 * (1 - ripe), over_nucleus=ripe < 0.5)
    return WhiteCell(
        radii=outline(rng, radius, 0.04, abs(rng.normal(0, 0.05))),
        lobes=((*aside(rng, radius - inner), nucleus),),
        links=(),
        chromatin=Chromatin(
            rng.normal(0.75 + 0.12 * ripe, 0.05), 0.2 + 0.3 * ripe, 0.06, 0.75, nucleoli
        ),
        cytoplasm=Cytoplasm(0.7 * (1 - ripe) + 0.08, 0.3 + 0.45 * ripe, 0.5, granules=(granules,)),
        ruffle=0.03 + 0.06 * rng.random(),
    )


def erythroblast(rng: Rng) -> WhiteCell:
    """Small: round, very dense nucleus; body from grey-blue to nearly that of a red cell."""
    ripe = rng.random()
    radius = float(np.clip(rng.normal(5.0 - 0.4 * ripe, 0.4), 3.9, 6.0))
    inner = radius * float(rng.uniform(0.62, 0.7) - 0.14 * ripe)
    nucleus = outline(rng, inner, 0.015, abs(rng.normal(0, 0.02)))
    return WhiteCell(
        radii=outline(rng, radius, 0.035, abs(rng.normal(0, 0.05))),
        lobes=((*aside(rng, 0.75 * (radius - inner)), nucleus),),
        links=(),
        chromatin=Chromatin(rng.normal(1.1 + 0.25 * ripe, 0.06), 0.55 - 0.35 * ripe, 0.04, 0.85),
        cytoplasm=Cytoplasm(0.75 - 0.5 * ripe, 0.1, red=0.3 + 0.5 * ripe),
        ruffle=0.02 + 0.06 * rng.random(),
    )
