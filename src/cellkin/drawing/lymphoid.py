"""Lymphoid cells: lymphocytes, lymphoblasts and the normal precursors that look much like them.

Sizes are those of dried smears, where a red cell is 7.2 micrometres across.
"""

from __future__ import annotations

import numpy as np

from cellkin.core.arrays import Singles
from cellkin.drawing.canvas import NUCLEAR, Rng, Spot, notched, outline, scattered
from cellkin.drawing.elements import Chromatin, Cytoplasm, Granules, WhiteCell


def aside(rng: Rng, room: float) -> tuple[float, float]:
    """A place off the centre, by up to `room` micrometres: nuclei rarely lie in the middle."""
    turn, far = rng.uniform(0, 2 * np.pi), room * rng.uniform(0.1, 0.95)
    return float(far * np.cos(turn)), float(far * np.sin(turn))


def bent(
    rng: Rng, radii: Singles, depth: tuple[float, float], width: tuple[float, float]
) -> Singles:
    """An outline with one indentation at a random angle."""
    at = rng.uniform(0, 2 * np.pi)
    return notched(radii, at, rng.uniform(*depth), rng.uniform(*width))


def lymphocyte(rng: Rng) -> WhiteCell:
    """Mostly small: round dense nucleus, clumped chromatin, rim of pale blue cytoplasm."""
    large = rng.random() < 0.35
    radius = float(np.clip(rng.normal(6.2, 0.55) if large else rng.normal(4.8, 0.5), 3.8, 7.5))
    share = float(np.clip(rng.normal(0.6 if large else 0.72, 0.06), 0.45, 0.84))
    inner = radius * share**0.5
    nucleus = outline(rng, inner, 0.02, abs(rng.normal(0, 0.03)))
    if rng.random() < 0.25:
        nucleus = bent(rng, nucleus, (0.05, 0.16), (0.35, 0.5))
    azurophil = Granules(NUCLEAR, 0.8, 0.2, 1.5, 0.35)
    return WhiteCell(
        radii=outline(rng, radius, 0.025 if not large else 0.04, abs(rng.normal(0, 0.04))),
        lobes=((*aside(rng, radius - inner), nucleus),),
        links=(),
        chromatin=Chromatin(
            rng.normal(0.95, 0.08), rng.uniform(0.45, 0.68), 0.05, rng.uniform(0.75, 1.1)
        ),
        cytoplasm=Cytoplasm(
            rng.uniform(0.4, 0.95),
            rng.uniform(0.0, 0.25),
            granules=(azurophil,) if large and rng.random() < 0.5 else (),
        ),
        ruffle=0.01 + 0.09 * rng.random() ** 3,
    )


def lymphoblast(rng: Rng) -> WhiteCell:
    """Mostly larger: nucleus nearly fills the cell, fine chromatin, nucleoli, deep blue rim."""
    radius = float(np.clip(rng.normal(6.1, 0.75), 4.6, 8.0))
    share = float(np.clip(rng.normal(0.84, 0.04), 0.72, 0.93))
    inner = radius * share**0.5
    nucleus = outline(rng, inner, 0.05, abs(rng.normal(0, 0.05)))
    if rng.random() < 0.7:
        nucleus = bent(rng, nucleus, (0.12, 0.4), (0.16, 0.4))
    nucleoli = _nucleoli(rng, int(rng.integers(1, 4)), inner, (0.6, 1.1))
    vacuoles = int(rng.integers(1, 7)) if rng.random() < 0.25 else 0
    return WhiteCell(
        radii=outline(rng, radius, 0.04, abs(rng.normal(0, 0.05))),
        lobes=((*aside(rng, radius - inner), nucleus),),
        links=(),
        chromatin=Chromatin(
            rng.normal(0.82, 0.08), rng.uniform(0.06, 0.16), 0.075, rng.uniform(0.36, 0.5), nucleoli
        ),
        cytoplasm=Cytoplasm(
            rng.uniform(0.7, 1.5), 0.0, vacuoles=scattered(rng, vacuoles, 0.9 * radius, (0.22, 0.5))
        ),
        ruffle=0.01 + 0.1 * rng.random() ** 2,
    )


def precursor(rng: Rng) -> WhiteCell:
    """A normal B-lymphoid precursor of bone marrow: close to a lymphoblast.

    Somewhat smaller and rounder, chromatin smooth yet with more clumps, a nucleolus seldom seen.
    """
    radius = float(np.clip(rng.normal(5.4, 0.6), 4.2, 7.0))
    share = float(np.clip(rng.normal(0.86, 0.04), 0.74, 0.94))
    inner = radius * share**0.5
    nucleus = outline(rng, inner, 0.022, abs(rng.normal(0, 0.035)))
    if rng.random() < 0.25:
        nucleus = bent(rng, nucleus, (0.06, 0.2), (0.2, 0.4))
    faint = _nucleoli(rng, int(rng.random() < 0.2), inner, (0.4, 0.6))
    return WhiteCell(
        radii=outline(rng, radius, 0.025, abs(rng.normal(0, 0.04))),
        lobes=((*aside(rng, radius - inner), nucleus),),
        links=(),
        chromatin=Chromatin(
            rng.normal(0.88, 0.08), rng.uniform(0.26, 0.42), 0.05, rng.uniform(0.55, 0.85), faint
        ),
        cytoplasm=Cytoplasm(rng.uniform(0.5, 1.2), rng.uniform(0.0, 0.1)),
        ruffle=0.01 + 0.07 * rng.random() ** 2,
    )


def _nucleoli(rng: Rng, count: int, inner: float, radius: tuple[float, float]) -> tuple[Spot, ...]:
    """Nucleoli of a nucleus of radius `inner`, apart from each other where there is room."""
    placed: list[Spot] = []
    for x, y, r in scattered(rng, 6 * count, 0.58 * inner, radius):
        apart = all(np.hypot(x - a, y - b) > r + c + 0.4 for a, b, c in placed)
        if apart and len(placed) < count:
            placed.append((x, y, r))
    return tuple(placed)
