"""Which cells to label first: `suggest`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.arrays import Bytes, Floats, Ints
from cellkin.core.errors import DecisionError, ImageError
from cellkin.core.plain import Plain
from cellkin.core.progress import Progress, silent
from cellkin.system.support import DecisionSupport

CHUNK = 256  # images looked at before their maps are let go


@dataclass(frozen=True)
class Suggestion(Plain):
    """A cell to label; `rank` 1 is the first.

    Attributes:
        image: its path. distance: to the nearest reference or cell suggested before it, in the
            scaled space.
    """

    rank: int
    image: str
    distance: float


@dataclass(frozen=True, eq=False)
class Suggested:
    """The cells to label first, in order; their pictures (S, S, 3) uint8 as the network sees them;
    and what was wrong with the images that could not be read.
    """

    cells: tuple[Suggestion, ...]
    pictures: tuple[Bytes, ...]
    faults: tuple[ImageError, ...]


def suggest(
    dss: DecisionSupport, images: Sequence[Path], *, n: int = 20, progress: Progress = silent
) -> Suggested:
    """The `n` cells whose labels would tell an atlas most: farthest first (Gonzalez 1985; core
    sets for active learning, Sener and Savarese 2018).

    Each is the one that lies farthest from all references and from those suggested before it, so
    that every cell ends up near one whose label is known.

    Args:
        dss: an atlas, `at` the place where the cells are from if it knows that place already.
        images: files of single cells, not labelled.

    Raises:
        DecisionError: n below 1, or fewer images than that can be read.
    """
    scaled, pictures, names, faults = _seen(dss, images, progress)
    if not 1 <= n <= len(names):
        raise DecisionError(
            f"{n} cells cannot be chosen among {len(names)} that can be read",
            where=f"--n {n}",
            mend=f"give 1 to {len(names)}" if names else "look at these images: cellkin check",
        )
    _, known = dss.atlas.index.nearest(scaled, 1)
    chosen, distances = farthest_first(scaled, known[:, 0], n)
    cells = tuple(
        Suggestion(rank, names[i], float(distance))
        for rank, (i, distance) in enumerate(zip(chosen.tolist(), distances, strict=True), start=1)
    )
    return Suggested(cells, tuple(pictures[i] for i in chosen.tolist()), tuple(faults))


def farthest_first(points: Floats, known: Floats, n: int) -> tuple[Ints, Floats]:
    """Positions (n,) of the points that are chosen, in order, and how far each was from all before.

    Args:
        points: (M, C). known: (M,) the distance of each to the nearest known point. n: at most M.
    """
    away, chosen, distances = known.astype(np.float64).copy(), list[int](), list[float]()
    for _ in range(n):
        away[chosen] = -1.0  # what is chosen is not chosen again, also among equal points
        best = int(away.argmax())
        chosen.append(best)
        distances.append(float(away[best]))
        away = np.minimum(away, np.sqrt(((points - points[best]) ** 2).sum(axis=1)))
    return np.array(chosen, np.int64), np.array(distances)


def _seen(
    dss: DecisionSupport, images: Sequence[Path], progress: Progress
) -> tuple[Floats, list[Bytes], list[str], list[ImageError]]:
    """Scaled features of the images that can be read, their pictures and names."""
    vectors, pictures, names, faults = list[Any](), list[Bytes](), list[str](), list[ImageError]()
    for start in range(0, len(images), CHUNK):
        some = images[start : start + CHUNK]
        for path, look in zip(some, dss.look(list(some)), strict=True):
            if isinstance(look, ImageError):
                faults.append(look)
                continue
            vectors.append(dss.moved(look).features.vectors[0])
            pictures.append(look.image)
            names.append(str(path))
        progress("looking at the cells", min(start + CHUNK, len(images)), len(images))
    scaled = dss.atlas.scale.apply(np.array(vectors)) if vectors else np.zeros((0, 1))
    return scaled, pictures, names, faults
