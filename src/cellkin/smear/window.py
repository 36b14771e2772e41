"""How much of a field one picture of an atlas shows, and in what light: told from its pictures.

Pictures of one cell carry no ruler. Where red cells lie in them these are measured, pooled over
many pictures, as in a field; where few lie in them whole, the finder's network measures what it
sees of them. A red cell is 7.2 micrometres, which gives the side of the picture. Where there are
none (cells cut out on black), the side is told in multiples of the white cells themselves, and
becomes micrometres by the white cells of the fields in which it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np

from cellkin.core.arrays import Array, Bytes, Singles
from cellkin.core.errors import DataError, RecipeError
from cellkin.core.progress import Progress, silent
from cellkin.imaging.checks import BLACK, brightest
from cellkin.imaging.preprocess import WINDOWS
from cellkin.imaging.stain import CUT_OUT
from cellkin.smear.found import FoundField
from cellkin.smear.jobs import packaged_finder
from cellkin.smear.light import WHITE, ground_of
from cellkin.smear.ruler import LEAST, RED_CELL, RedCells, red_cells
from cellkin.smear.searching import SURE_RED, peaks
from cellkin.smear.seeing import CHANNELS, RED_PIXELS, STRIDE, Finder

PICTURES = 96  # of an atlas, that are measured
FEW = 4  # every so many-th of these, by which the best guess is told
GUESSES = (2.5, 3.5, 5.0, 7.0, 10.0)  # red cells along a picture, where nothing tells how many
STARTS = tuple(round(guess * RED_PIXELS) for guess in GUESSES)
TOGETHER = 16  # pictures that the network sees at once
LEAST_SIDE, MOST_SIDE = 32, 400  # in pixels of what the network sees: more is no picture of a cell
ROUNDS = 3  # in which the size is asked for again at the scale that was told
WHITE_PIXELS = 44.0  # a white cell, in pixels of what the network sees
SURE_WHITE = 0.3  # score from which on a white cell helps to tell the scale
LEAST_SHARE = 0.05  # of the pictures, covered by red cells: squares cut close show only parts
INSIDE = 0.55  # of a red cell: nearer than this to the picture's edge it is cut


@dataclass(frozen=True)
class Window:
    """How much one picture of an atlas shows.

    Attributes:
        um: side in micrometres, by red cells or as a recipe says; None where it is not known.
        cells: side over the size of the white cell in it (the longer side of its box); None where
            no white cell was seen.
        ground: R, G, B of the empty ground around the cells; black where they are cut out; None
            where nothing tells it, or pictures differ.
        source: "red cells", "white cells", "recipe" or "given". counted: cells that were measured.
    """

    um: float | None
    cells: float | None
    ground: tuple[int, int, int] | None
    source: str
    counted: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Window:
        ground = data["ground"]
        return cls(**{**data, "ground": None if ground is None else tuple(ground)})

    @classmethod
    def given(cls, um: float) -> Window:
        """So many micrometres on white ground.

        Raises:
            RecipeError: no side of a picture of one cell.
        """
        if not WINDOWS[0] <= um <= WINDOWS[1]:
            raise RecipeError(
                f"a window of {um:g} micrometres is not possible",
                where="window",
                mend="give the side of a picture of one cell in micrometres, for instance 30",
            )
        return cls(um, None, None, "given")

    @property
    def cut_out(self) -> bool:
        """Whether the pictures show cells cut out on black."""
        return self.ground == (0, 0, 0)

    def settled(self, fields: Sequence[FoundField]) -> Window:
        """The window in micrometres, by the white cells of these fields where it is not known.

        Raises:
            DataError: these fields hold no white cell.
        """
        if self.um is not None:
            return self
        sizes = [
            max(cell.right - cell.left, cell.bottom - cell.top) * field.cut_um_per_pixel
            for field in fields
            for cell in field.cells
            if cell.kind == "white cell"
        ]
        if not sizes:
            raise DataError(
                "the size of white cells cannot be told: none was found",
                where=", ".join(str(field.path) for field in fields[:3]),
                mend="give fields with white cells",
            )
        assert self.cells is not None
        return replace(self, um=self.cells * float(np.median(sizes)))


def window_of(
    pictures: Bytes | Sequence[Bytes],
    *,
    um: float | None = None,
    finder: Finder | None = None,
    progress: Progress = silent,
) -> Window:
    """The window of an atlas, measured on its reference pictures.

    Args:
        pictures: (S, S, 3) uint8 each, at least one; evenly spread ones of many are taken.
        um: side in micrometres, where the recipe says it: then the ground alone is measured.

    Raises:
        DataError: neither red cells nor white cells are seen in them.
    """
    taken = [pictures[i] for i in spread(len(pictures))]
    cut_out = np.mean([is_cut_out(picture) for picture in taken]) > 0.5
    ground = (0, 0, 0) if cut_out else _ground(taken)
    if um is not None:
        return Window(um, None, ground, "recipe")
    looks = _Looks(taken, finder or packaged_finder(), progress)
    reds = None if cut_out else _by_ruler(looks.pictures) or _by_red_cells(looks)
    whites = _by_white_cells(looks, None if reds is None else reds[0])
    cells = None if whites is None else whites[0]
    if reds is not None:
        return Window(RED_CELL * reds[0], cells, ground, "red cells", reds[1])
    if whites is None:
        raise DataError(
            "the scale of these pictures cannot be told: neither red nor white cells are seen",
            where=f"{len(taken)} pictures",
            mend="give pictures of single white cells, stained after Romanowsky",
        )
    return Window(None, cells, ground, "white cells", whites[1])


def spread(count: int) -> list[int]:
    """Positions, evenly spread, of the pictures among so many that are measured."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, PICTURES))})


class _Looks:
    """What the network sees in pictures, by their side in its pixels."""

    def __init__(self, pictures: Sequence[Bytes], network: Finder, progress: Progress) -> None:
        self.pictures = [lit(picture) for picture in pictures]
        self._network, self._progress = network, progress
        self._known: dict[tuple[int, int], tuple[Singles, Singles]] = {}

    def __len__(self) -> int:
        return len(self.pictures)

    def at(self, side: int, step: int = 1) -> tuple[Singles, Singles]:
        """Heat maps (N, kinds, h, w) in [0, 1] and shapes (N, 4, h, w) of every so many-th."""
        if (side, step) not in self._known:
            self._progress("measuring the scale", len(self._known), len(GUESSES) + ROUNDS)
            self._known[side, step] = self._looked(self.pictures[::step], side)
        return self._known[side, step]

    def _looked(self, pictures: Sequence[Bytes], side: int) -> tuple[Singles, Singles]:
        padded = np.full((len(pictures), side + -side % 16, side + -side % 16, 3), WHITE, np.uint8)
        for row, picture in zip(padded, pictures, strict=True):
            how = cv2.INTER_AREA if side < len(picture) else cv2.INTER_LINEAR
            row[:side, :side] = cv2.resize(picture, (side, side), interpolation=how)
        parts = [
            self._network.seen(padded[i : i + TOGETHER]) for i in range(0, len(padded), TOGETHER)
        ]
        heat, shapes = (np.concatenate(some) for some in zip(*parts, strict=True))
        n = -(-side // STRIDE)
        return heat[..., :n, :n], shapes[..., :n, :n]


def is_cut_out(picture: Bytes) -> bool:
    """Whether a cell was cut out and laid on black."""
    return bool((brightest(picture) <= BLACK).mean() >= CUT_OUT)


def lit(picture: Bytes) -> Bytes:
    """A picture whose ground is white; black around a cell that was cut out is ground as well."""
    if is_cut_out(picture):
        black = (brightest(picture) <= BLACK).astype(np.uint8)
        edge = cv2.dilate(black, np.ones((3, 3), np.uint8)) > 0
        return np.where(edge[..., None], np.uint8(WHITE), picture)
    white = np.maximum(np.percentile(picture.reshape(-1, 3), 95, axis=0), 1)
    return np.asarray(np.clip(picture * (WHITE / white), 0, 255), np.uint8)


def _by_ruler(pictures: Sequence[Bytes]) -> tuple[float, int] | None:
    """Red cells along a picture, by those that lie alone and whole in it, and how many these are;
    None where they are too few.
    """
    found = RedCells.together([red_cells(picture) for picture in pictures])
    return (len(pictures[0]) / found.mean, len(found)) if len(found) >= LEAST else None


def _by_red_cells(looks: _Looks) -> tuple[float, int] | None:
    """Red cells along a picture as the network sees them, and how many were measured; None where
    too few are seen.
    """
    _, side = max((_red_cells(looks.at(s, FEW), s)[0], s) for s in STARTS)
    for _ in range(ROUNDS):
        share, size, count = _red_cells(looks.at(side), side)
        asked, side = side, round(side * RED_PIXELS / size)
        if side == asked or not LEAST_SIDE <= side <= MOST_SIDE:
            break
    if count < LEAST or share < LEAST_SHARE:
        return None
    return asked / size, count


def _red_cells(look: tuple[Singles, Singles], side: int) -> tuple[float, float, int]:
    """Share of the pictures that red cells of their right size cover, median size and number of
    those that are seen whole, in pixels of the network.
    """
    heat, shapes = look
    red, weights, sizes = CHANNELS.index("red cell"), [], []
    for plane, shape in zip(heat[:, red], shapes, strict=True):
        rows, columns = peaks(plane, SURE_RED)
        size = STRIDE * np.exp(shape[2:, rows, columns].mean(axis=0))
        middles = STRIDE * (np.stack([columns, rows]) + shape[:2, rows, columns])
        whole = np.minimum(middles, side - middles).min(axis=0) > INSIDE * size
        sizes += size[whole].tolist()
        weights += plane[rows, columns][whole].tolist()
    if not sizes:
        return 0.0, RED_PIXELS, 0
    every = np.array(sizes)
    fits = np.exp(-((np.log(every / RED_PIXELS) / 0.4) ** 2))
    share = (np.array(weights) * fits * every**2).sum() / (len(heat) * side**2)
    return float(share), float(np.median(every)), len(every)


def _by_white_cells(looks: _Looks, reds: float | None) -> tuple[float, int] | None:
    """White cells along a picture, and how many were measured; None where few pictures show one.

    Args:
        reds: red cells along a picture, where they tell at which scale to look.
    """
    if reds is not None:
        side = round(reds * RED_PIXELS)
        across, count = _white_cells(looks.at(side), side)[1:]
        return (across, count) if count else None
    _, side = max((_white_cells(looks.at(s, FEW), s)[0], s) for s in STARTS)
    for _ in range(ROUNDS):
        _, across, count = _white_cells(looks.at(side), side)
        asked, side = side, round(across * WHITE_PIXELS)
        if side == asked or not LEAST_SIDE <= side <= MOST_SIDE:
            break
    return (across, count) if count > len(looks) / 2 else None


def _white_cells(look: tuple[Singles, Singles], side: int) -> tuple[float, float, int]:
    """Mean score of the surest white cell in the middle of each picture; the picture's side over
    the median size of those that are sure; and how many these are.
    """
    heat, shapes = look
    edge = heat.shape[-1] // 4
    middle = (slice(None), slice(edge, -edge or None), slice(edge, -edge or None))
    scores = heat[:, CHANNELS.index("white cell")][middle].reshape(len(heat), -1)
    sizes = STRIDE * np.exp(shapes[:, 2:].max(axis=1))[middle].reshape(len(heat), -1)
    surest = np.arange(len(heat)), scores.argmax(axis=1)
    sure = sizes[surest][scores[surest] >= SURE_WHITE]
    across = side / float(np.median(sure)) if len(sure) else 0.0
    return float(scores[surest].mean()), across, len(sure)


def _ground(pictures: Sequence[Bytes]) -> tuple[int, int, int] | None:
    """The middle colour of the empty ground; None where fewer than half of the pictures show it."""
    colours: list[Array] = []
    for picture in pictures:
        mask = ground_of(picture)
        if mask is not None:
            small = cv2.resize(picture, mask.shape[::-1], interpolation=cv2.INTER_AREA)
            colours.append(np.median(small[mask], axis=0))
    if len(colours) < max(len(pictures) / 2, 1):
        return None
    red, green, blue = (round(float(value)) for value in np.median(colours, axis=0))
    return red, green, blue
