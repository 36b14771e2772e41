"""What was found, as plain data and arrays: so it is kept on disk and handed between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cellkin.core.arrays import Array, Ints, Singles
from cellkin.core.kept import Kept
from cellkin.smear.found import KINDS, Cell, Outline
from cellkin.smear.light import Light
from cellkin.smear.ruler import RedCells, Ruler
from cellkin.smear.suitable import Glance
from cellkin.smear.surveying import Survey

NUMBERS = ("x", "y", "left", "top", "right", "bottom", "score")


def survey_kept(survey: Survey) -> Kept:
    """A survey as it is kept."""
    ruler, light = survey.ruler, survey.light
    facts = {
        "white": list(survey.white),
        "ruler": None if ruler is None else asdict(ruler),
        "red_cells": survey.red_cells.diameters.tolist(),
        "downsample": survey.downsample,
        "ground": None if light is None else light.ground,
        "glance": asdict(survey.glance),
    }
    return Kept(facts, {} if light is None else {"light": light.surface})


def kept_survey(facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Survey:
    """The survey that was kept."""
    red, green, blue = facts["white"]
    return Survey(
        Light(np.asarray(arrays["light"]), facts["ground"]) if "light" in arrays else None,
        (red, green, blue),
        kept_ruler(facts),
        kept_red_cells(facts),
        facts["downsample"],
        Glance(**facts["glance"]),
    )


def kept_ruler(facts: Mapping[str, Any]) -> Ruler | None:
    """The ruler of a survey."""
    return None if facts["ruler"] is None else Ruler(**facts["ruler"])


def kept_red_cells(facts: Mapping[str, Any]) -> RedCells:
    """The red cells of a survey."""
    return RedCells(np.array(facts["red_cells"], np.float32))


def cells_kept(cells: Sequence[Cell], outlines: Sequence[Outline]) -> dict[str, Array]:
    """Cells with their outlines as arrays: (n, 7) numbers, kinds (n,), and all rings in a row."""
    rings = [ring for outline in outlines for ring in _rings(outline)]
    return {
        "numbers": np.array([[getattr(c, k) for k in NUMBERS] for c in cells]).reshape(-1, 7),
        "kinds": np.array([KINDS.index(c.kind) for c in cells], np.uint8),
        "rings": np.array([len(_rings(outline)) for outline in outlines], np.int64),
        "lengths": np.array([len(ring) for ring in rings], np.int64),
        "points": np.concatenate([np.zeros((0, 2), np.float32), *rings]),
    }


def _rings(outline: Outline) -> list[Singles]:
    """The body, empty where there is none, and the lobes of the nucleus."""
    none = np.zeros((0, 2), np.float32)
    return [none if outline.body is None else outline.body, *outline.nucleus]


def kept_cells(arrays: Mapping[str, Array]) -> list[Cell]:
    """The cells that were kept."""
    found = []
    for row, kind in zip(arrays["numbers"], arrays["kinds"], strict=True):
        x, y, left, top, right, bottom, score = (float(v) for v in row)
        found.append(Cell(x, y, left, top, right, bottom, KINDS[kind], score))
    return found


class Outlines(Sequence[Outline]):
    """Outlines that were kept, unpacked one by one: those of hundreds of thousands of cells are
    small.

    Args:
        packs: arrays of `cells_kept`. places: (n, 2), the pack of each and its place there.
    """

    def __init__(self, packs: Sequence[Mapping[str, Array]], places: Ints) -> None:
        self._places = places
        self._packs = [
            (p["points"], _starts(p["rings"]), _starts(p["lengths"]), p["rings"]) for p in packs
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Outline:  # type: ignore[override]
        pack, place = (int(n) for n in self._places[index])
        points, first, start, count = self._packs[pack]
        rings = range(int(first[place]), int(first[place] + count[place]))
        body, *lobes = (points[start[r] : start[r + 1]] for r in rings)
        return Outline(body if len(body) else None, tuple(lobes))


def _starts(lengths: Array) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
