"""The light of a field, told from its empty ground; and the field as an even light would show it.

I = L(x, y) T: the light L is a smooth surface through the empty ground, T the transmittance of
what lies there. The field is divided by L, so that the ground of every field is one white. Ground
is bright and low in texture: in every part of the field the brightest smooth pixels, as far as one
smooth surface runs through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Array, Bools, Bytes, Floats, Ints, Singles

WHITE = 240
"""What the empty ground of every field becomes, in each channel."""

SIDE = 320  # longer side at which the light is sought: it is smooth
PARTS = 10  # parts along the longer side, in each of which ground is sought
SMOOTH = 0.02  # local standard deviation of log intensity up to which a pixel has no texture
NEAR = (0.10, 0.06, 0.045)  # distance from the surface, in log intensity, in each round
DEGREES = (2, 4, 4)  # of the polynomial surface, in each round
LEAST_GROUND = 0.02  # of the field
LEAST_PARTS = 12  # parts that must hold some ground: else the surface is a guess
FITTED = 6000  # pixels of ground through which the polynomial is laid
DARKEST = 40  # of 255 in green, at the brightest place: what is darker is no ground
FALL = 3.0  # the light of no field falls farther than to a third of its brightest place


@dataclass(frozen=True, eq=False)
class Light:
    """The light of one field.

    Attributes:
        surface: (h, w, 3) float32, the empty ground's R, G, B in [1, 255] on a coarse grid over the
            whole field. ground: share of the field that is empty ground.
    """

    surface: Singles
    ground: float

    @classmethod
    def of(cls, rgb: Bytes) -> Light | None:
        """The light of a field (H, W, 3); None where no empty ground tells it."""
        small = _small(rgb)
        logs = np.log(np.maximum(small, 1)).astype(np.float32)
        found = _ground(logs)
        if found is None:
            return None
        mask, surface = found
        return cls(np.exp(surface), float(mask.mean()))

    def even(self, rgb: Bytes, box: tuple[int, int, int, int], size: tuple[int, int]) -> Bytes:
        """A part of the field in one even light, whose ground is `WHITE`.

        Args:
            rgb: (h, w, 3) uint8, the part; any resolution. box: left, top, right, bottom of the
                part in pixels of the field. size: width and height of the field.
        """
        height, width = rgb.shape[:2]
        rows, columns = self.surface.shape[:2]
        left, top, right, bottom = box
        across = (left + (np.arange(width) + 0.5) * (right - left) / width) * columns / size[0]
        down = (top + (np.arange(height) + 0.5) * (bottom - top) / height) * rows / size[1]
        x, y = np.meshgrid(np.float32(across - 0.5), np.float32(down - 0.5))
        light = cv2.remap(self.surface, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.divide(rgb, light, scale=WHITE, dtype=cv2.CV_8U), np.uint8)

    def whole(self, rgb: Bytes) -> Bytes:
        """The whole field (H, W, 3) in one even light."""
        height, width = rgb.shape[:2]
        return self.even(rgb, (0, 0, width, height), (width, height))


def ground_of(rgb: Bytes) -> Bools | None:
    """Where the empty ground is: (h, w) bool on a coarse grid; None where there is none to tell."""
    found = _ground(np.log(np.maximum(_small(rgb), 1)).astype(np.float32))
    return None if found is None else found[0]


def evenness(rgb: Bytes, ground: Bools, parts: int = 4) -> float:
    """Largest deviation of the ground's colour from its mean, as a share of that, over the parts of
    a field.

    Args:
        rgb: (H, W, 3) uint8. ground: (h, w) bool, as `ground_of` gives it.
        parts: along either side; parts with less than 2 % of ground are left out.
    """
    small = _resized(rgb, ground.shape[1], ground.shape[0])
    means = []
    for rows in np.array_split(np.arange(ground.shape[0]), parts):
        for columns in np.array_split(np.arange(ground.shape[1]), parts):
            inside = ground[np.ix_(rows, columns)]
            if inside.mean() >= LEAST_GROUND:
                means.append(small[np.ix_(rows, columns)][inside].mean(axis=0))
    colours = np.array(means)
    whole = colours.mean(axis=0)
    return float(np.abs(colours / whole - 1).max())


def _small(rgb: Bytes) -> Singles:
    height, width = rgb.shape[:2]
    factor = min(SIDE / max(height, width), 1.0)
    return _resized(rgb, max(round(width * factor), 1), max(round(height * factor), 1))


def _resized(rgb: Bytes, width: int, height: int) -> Singles:
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _ground(logs: Singles) -> tuple[Bools, Singles] | None:
    """Ground (h, w) and the surface (h, w, 3) of log intensity through it."""
    smooth = _texture(logs) < SMOOTH
    green = logs[..., 1]
    places, values = _brightest(green, smooth)
    if len(places) < LEAST_PARTS:
        return None
    surface = _envelope(green.shape, places, values)
    mask = smooth & (np.abs(green - surface) < NEAR[0])
    for degree, near in zip(DEGREES, NEAR, strict=True):
        if mask.mean() < LEAST_GROUND:
            return None
        surface = _fitted(logs, mask, degree)
        away = np.abs(logs - surface).max(axis=2)
        mask = smooth & (away < near)
    green = surface[..., 1]
    if mask.mean() < LEAST_GROUND or np.ptp(green) > np.log(FALL) or green.max() < np.log(DARKEST):
        return None
    return mask, _with_detail(logs, mask, surface)


def _texture(logs: Singles) -> Singles:
    mean = cv2.blur(logs, (5, 5))
    variance = cv2.blur(logs * logs, (5, 5)) - mean * mean
    return np.asarray(np.sqrt(np.maximum(variance, 0)).max(axis=2), np.float32)


def _brightest(green: Singles, smooth: Bools) -> tuple[Singles, Singles]:
    """Middles (n, 2) in [-1, 1] and brightness (n,) of the brightest smooth pixels, by part."""
    height, width = green.shape
    side = max(height, width) / PARTS
    places, values = [], []
    for top in np.arange(0, height - 1, side):
        for left in np.arange(0, width - 1, side):
            place = (
                slice(int(top), int(top + side) + 1),
                slice(int(left), int(left + side) + 1),
            )
            inside = green[place][smooth[place]]
            if inside.size >= 0.02 * green[place].size:
                places.append(
                    (2 * (left + side / 2) / width - 1, 2 * (top + side / 2) / height - 1)
                )
                values.append(np.percentile(inside, 85))
    return np.array(places, np.float32).reshape(-1, 2), np.array(values, np.float32)


def _envelope(shape: tuple[int, ...], places: Singles, values: Singles) -> Singles:
    """A surface (h, w) of degree 2 along the upper side of values: parts without ground lie below.

    Expectile regression at 0.9.
    """
    basis = _powers(places[:, 0], places[:, 1], 2)
    weights = np.ones(len(values))
    ridge = 1e-3 * np.eye(basis.shape[1])
    for _ in range(30):
        weighted = basis * weights[:, None]
        terms = np.linalg.solve(weighted.T @ basis + ridge, weighted.T @ values)
        weights = np.where(values > basis @ terms, 0.9, 0.1)
    return _over(shape, terms, 2)


def _fitted(logs: Singles, mask: Bools, degree: int) -> Singles:
    """The polynomial surface (h, w, 3) through the ground."""
    rows, columns = np.nonzero(mask)
    step = max(len(rows) // FITTED, 1)
    rows, columns = rows[::step], columns[::step]
    height, width = mask.shape
    basis = _powers(2 * (columns + 0.5) / width - 1, 2 * (rows + 0.5) / height - 1, degree)
    ridge = 1e-4 * len(rows) * np.eye(basis.shape[1])
    ridge[0, 0] = 0
    terms = np.linalg.solve(basis.T @ basis + ridge, basis.T @ logs[rows, columns])
    return np.stack([_over(mask.shape, terms[:, k], degree) for k in range(3)], axis=2)


def _with_detail(logs: Singles, mask: Bools, surface: Singles) -> Singles:
    """What the polynomial leaves, smoothed over the ground, added to it."""
    weight = mask.astype(np.float32)
    left = (logs - surface) * weight[..., None]
    width = max(mask.shape) / 24
    near = cv2.GaussianBlur(weight, (0, 0), width)
    smooth = cv2.GaussianBlur(left, (0, 0), width) / (near + 0.05)[..., None]
    return np.asarray(np.clip(surface + smooth, 0, np.log(255)), np.float32)


def _powers(x: Array, y: Array, degree: int) -> Floats:
    across, down = np.vander(x.ravel(), degree + 1, True), np.vander(y.ravel(), degree + 1, True)
    i, j = _places(degree)
    return np.asarray(across[:, i] * down[:, j])


def _over(shape: tuple[int, ...], terms: Array, degree: int) -> Singles:
    """The polynomial surface (h, w) of these terms."""
    x, y = (np.vander(2 * (np.arange(n) + 0.5) / n - 1, degree + 1, True) for n in shape[::-1])
    square = np.zeros((degree + 1, degree + 1))
    square[_places(degree)] = terms
    return np.asarray(y @ square.T @ x.T, np.float32)


def _places(degree: int) -> tuple[Ints, Ints]:
    """Powers of x and of y of each term, in the order of `_powers`."""
    pairs = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    i, j = zip(*pairs, strict=True)
    return np.array(i), np.array(j)
