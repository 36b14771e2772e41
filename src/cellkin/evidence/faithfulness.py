"""Deletion and insertion: would the network notice what a heatmap points at?

Positions of the feature map are covered in the picture, a few more at each step, and what the map
claims to explain is computed again. Covered are the pixels below a position, by the same picture
out of focus: colours stay, and no edge is made that random covering would not make as well. A
faithful map, most relevant positions first, makes its target fall faster than a random order of the
same sizes (deletion); least relevant first, slower, which is the same as showing the most relevant
first (insertion; Petsiuk et al., RISE, 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Bytes, Floats, Ints
from cellkin.core.plain import Plain
from cellkin.core.progress import Progress, silent
from cellkin.core.units import Owners
from cellkin.measures.intervals import Mean, mean_of

Measure = Callable[[Bytes, Ints], Mapping[str, Floats]]
"""Pictures (n, S, S, 3) and the cells (n,) that they belong to: each method's target, (n,)."""

STEPS = 8  # from the whole picture to nothing of it
DRAWS = 3  # random orders of each cell
BATCH = 32  # pictures asked about at once


@dataclass(frozen=True)
class Deletion(Plain):
    """The test of one method over M cells.

    Attributes:
        covered: (T + 1,) shares of the positions that are covered, 0 to 1.
        most, least, random: (T + 1,) mean target with the most relevant, least relevant and
            random positions covered first.
        deletion: by how much the area under `most` is smaller than under `random`, cell by cell;
            insertion: by how much the area under `least` is larger. Both in units of `spread`.
        spread: mean over the cells of |target of the whole - of the covered picture|.
    """

    covered: tuple[float, ...]
    most: tuple[float, ...]
    least: tuple[float, ...]
    random: tuple[float, ...]
    deletion: Mean
    insertion: Mean
    spread: float


def deletion(
    images: Bytes,
    maps: Mapping[str, Floats],
    measure: Measure,
    *,
    owners: Owners | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Deletion]:
    """The test of every method.

    Args:
        images: (M, S, S, 3) uint8. maps: method -> (M, h, w); larger is more relevant.
        measure: computes each method's target of changed pictures; it is called with batches.
        owners: see `mean_of`.
        seed: of the random orders, which all methods share, and of the intervals.
    """
    rng = np.random.default_rng(seed)
    shape = next(iter(maps.values())).shape[1:]
    orders = {f"random {i}": _shuffled(rng, len(images), shape) for i in range(DRAWS)}
    for name, values in maps.items():
        orders[f"{name} most"] = relevance_order(values, rng)
        orders[f"{name} least"] = orders[f"{name} most"][:, ::-1]
    course = _Course(images, shape, measure, progress)
    found = {
        name: course.run(order, (i, len(orders))) for i, (name, order) in enumerate(orders.items())
    }
    made = {}
    for name in maps:
        draws = np.mean([found[f"random {i}"][name] for i in range(DRAWS)], axis=0)
        curves = (found[f"{name} most"][name], found[f"{name} least"][name], draws)
        made[name] = _compared(curves, owners, seed)
    return made


def _compared(curves: tuple[Floats, Floats, Floats], owners: Owners | None, seed: int) -> Deletion:
    """From curves (M, T + 1) with the most relevant, the least relevant, or any covered first."""
    most, least, random = curves
    spread = float(np.abs(random[:, 0] - random[:, -1]).mean())
    unit = spread or 1.0
    areas = [np.asarray(np.trapezoid(c, dx=1 / STEPS, axis=1)) / unit for c in curves]
    at = np.linspace(0, 1, STEPS + 1)
    return Deletion(
        covered=tuple(at.tolist()),
        most=tuple(most.mean(axis=0).tolist()),
        least=tuple(least.mean(axis=0).tolist()),
        random=tuple(random.mean(axis=0).tolist()),
        deletion=mean_of(areas[2] - areas[0], owners, seed=seed),
        insertion=mean_of(areas[1] - areas[2], owners, seed=seed),
        spread=spread,
    )


class _Course:
    """Covers pictures step by step and asks for the targets."""

    def __init__(
        self, images: Bytes, shape: tuple[int, ...], measure: Measure, progress: Progress
    ) -> None:
        self.images, self.shape, self.measure, self.progress = images, shape, measure, progress
        self.fill = blurred(images)
        cells = np.arange(len(images))
        self.whole, self.nothing = (self._ask(shown, cells) for shown in (images, self.fill))

    def run(self, order: Ints, at: tuple[int, int]) -> dict[str, Floats]:
        """(M, T + 1) of every method's target, by one order (M, h w) of the positions.

        Every course starts with the whole picture and ends with nothing of it.
        """
        M, n = order.shape
        counts = np.rint(np.linspace(0, n, STEPS + 1)).astype(int)[1:-1]
        place = np.argsort(order, axis=1)  # of each position in the order
        removed = (place[:, None] < counts[:, None]).reshape(-1, *self.shape)
        cells = np.repeat(np.arange(M), STEPS - 1)
        parts: list[dict[str, Floats]] = []
        for start in range(0, len(cells), BATCH):
            own = cells[start : start + BATCH]
            hidden = covered(self.images[own], self.fill[own], removed[start : start + BATCH])
            parts.append(dict(self.measure(hidden, own)))
            done = at[0] * len(cells) + start + len(own)
            self.progress("covering what the heatmaps point at", done, at[1] * len(cells))
        return {
            name: np.column_stack(
                [
                    self.whole[name],
                    np.concatenate([part[name] for part in parts]).reshape(M, STEPS - 1),
                    self.nothing[name],
                ]
            )
            for name in self.whole
        }

    def _ask(self, pictures: Bytes, cells: Ints) -> dict[str, Floats]:
        steps = [slice(i, i + BATCH) for i in range(0, len(cells), BATCH)]
        parts = [self.measure(pictures[step], cells[step]) for step in steps]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def relevance_order(values: Floats, rng: np.random.Generator) -> Ints:
    """Positions (M, h w) of maps (M, h, w), the most relevant first; equals in a random order."""
    flat = values.reshape(len(values), -1)
    return np.lexsort((rng.random(flat.shape), -flat), axis=1)


def _shuffled(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Ints:
    return np.argsort(rng.random((count, int(np.prod(shape)))), axis=1)


def covered(images: Bytes, fill: Bytes, removed: Bools) -> Bytes:
    """Pictures (n, S, S, 3) with the pixels below some positions (n, h, w) taken from `fill`."""
    S, (h, w) = images.shape[1], removed.shape[1:]
    rows, columns = np.arange(S) * h // S, np.arange(S) * w // S
    hidden = removed[:, rows][:, :, columns]
    return np.where(hidden[..., None], fill, images)


def blurred(images: Bytes) -> Bytes:
    """Pictures far out of focus: a Gaussian of an eighth of their side."""
    sigma = images.shape[1] / 8
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]).astype(np.uint8)
