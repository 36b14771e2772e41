"""The outline of the cell in the middle of a picture of one cell, told without a network.

What belongs to the cell is asked of the picture itself: colours that lie in its middle and not
around it speak for the cell, colours that lie around it speak against, as in GrabCut (Rother et
al., 2004); nuclear stain speaks for the cell in every light. Of all closed lines around the middle
that every ray meets once the best is taken: by what it encloses, by the step from what lies just
inside to what lies just outside, and by its smoothness. That is one run of dynamic programming over
the rays (Amini et al., 1990). Colours and line are then told from each other anew, a few times.

A cell that was cut out on black has its outline already: the edge of the black.

With an outline a cell can be shown alone on a neutral ground, or among what lies around another.
"""

from __future__ import annotations

import cv2
import numpy as np

from cellkin.core.arrays import Array, Bools, Bytes, Floats, Ints, Singles
from cellkin.core.errors import NoCellError
from cellkin.imaging.canonical import WHITE, cut_out
from cellkin.imaging.checks import BLACK, brightest, require_rgb

SIDE = 128  # pixels along the picture in which the line is sought
RAYS = 128
ROUNDS = 3  # in which colours are told by the line, and the line by the colours
STEP = 2  # pixels by which the line may go out or in from one ray to the next
STIFF = 2.5  # what a pixel of such a step costs, squared
EDGE = 5.0  # weight of the step across the line against what it encloses
REACH = 3  # pixels inside and outside the line over which the step is measured
INSIDE, OUTSIDE = 0.1, -1.5  # beyond these, a step does not count: a nucleus is no better an edge
SURE = 2.5  # largest log ratio by which a colour speaks for or against
SPARSE = 2e-4  # share of the pixels that a colour is given in any case
VIOLET = 0.45  # stain, in densities of the picture, from which on it speaks for the cell
PALE = 0.08  # density below which a pixel is ground
MIDDLE, AROUND = 0.13, 0.40  # sides of the picture: what is taken for the cell, and not, at first
STRONGEST = 3.0  # sum of densities that the strongest stains of every picture are set to
LEAST_STAIN = 0.3  # sum of densities of a picture in which there is some stain
BINS = (14, 14, 12)  # of density, nuclear stain and redness
LOW = np.array([0.0, -1.2, -1.0], np.float32)
HIGH = np.array([1.4, 1.4, 1.0], np.float32)
CORE = 0.55  # of the depth of a mask: what is deeper is the core of a cell
TWIN = 0.15  # of the area of the largest core: what is larger is another cell
LEAST_AREA = 20  # pixels
STAINED = 1.1  # stain of a nucleus, in densities of the picture; red cells have less
DEEP = 0.9  # quantile of the stain of a cell that stands for its nucleus
SOFT = 1.0  # pixels over which a cell passes into another ground
APART = 0.03  # sides of the picture that are kept from a cell's edge, where its ground is told
BRIGHTER = 0.7  # quantile of what lies around a cell from which on it is taken for ground
WIDE = 8.0  # pixels of 64, over which the ground is smoothed where a cell was taken away


def cell_mask(rgb: Bytes) -> Bools | None:
    """Where the cell in the middle lies: (H, W) bool; None where no cell is found there.

    Args:
        rgb: (S, S, 3) uint8 RGB, the picture of one cell.

    Raises:
        ImageError: the array is no RGB image.
    """
    require_rgb(rgb, "in which the outline of a cell was sought")
    black = cut_out(rgb)
    if black is not None:  # a pixel beside the black is a mixture: it belongs to neither
        return _largest(_widened(black.astype(np.uint8), 1) == 0)
    side = min(SIDE, len(rgb))
    small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
    found = _sought(np.asarray(small, np.uint8))
    if found is None:
        return None
    whole = cv2.resize(found.astype(np.float32), rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole >= 0.5, bool)


def polygon(mask: Bools) -> Floats:
    """The edge of a mask (H, W): corners (n, 2), x and y, in sides of the picture."""
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    line = cv2.approxPolyDP(max(lines, key=cv2.contourArea), 0.003 * len(mask), closed=True)
    return np.asarray((line[:, 0] + 0.5) / mask.shape[::-1], np.float64)


def alone(prepared: Bytes, square: Bytes, where: str) -> Bytes:
    """The cell alone on a neutral ground, `canonical.WHITE` in every channel, and in white light:
    divided by its own ground, so that neither a rim nor the hue of its lamp is left.

    Args:
        prepared: (S, S, 3) uint8. square: (H, H, 3) uint8, the picture that it was made of, in
            which the outline is sought. where: what to call it in messages.

    Raises:
        NoCellError: no cell is found in its middle.
    """
    mask = cell_mask(square)
    if mask is None:
        raise NoCellError(
            "no cell is found in the middle of this picture",
            where=where,
            mend="this encoder sees cells alone: give the picture of one stained cell",
        )
    shape = prepared.shape[1::-1]
    share = cv2.resize(mask.astype(np.float32), shape, interpolation=cv2.INTER_AREA)
    inside = share >= 0.5
    return on_ground(
        _lit(prepared, WHITE / _light(*_ground_under(prepared, inside))), inside, WHITE
    )


def empty(size: int) -> Bytes:
    """The neutral ground without a cell: (size, size, 3) uint8."""
    return np.full((size, size, 3), WHITE, np.uint8)


def is_empty(prepared: Bytes) -> bool:
    """Whether a prepared picture is neutral ground all over: no cell was found in it."""
    return bool((prepared == WHITE).all())


def on_ground(rgb: Bytes, mask: Bools, ground: Bytes | float) -> Bytes:
    """A cell on another ground, into which it passes over a pixel or two.

    Args:
        rgb: (S, S, 3) uint8. mask: (S, S) bool, where its cell lies.
        ground: (S, S, 3) uint8, or one grey level for all of it.
    """
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), SOFT)[..., None]
    mixed = share * rgb + (1 - share) * np.float32(ground)
    return np.asarray(np.rint(mixed), np.uint8)


def among(rgb: Bytes, mask: Bools, other: Bytes, mask_other: Bools) -> Bytes:
    """A cell among what lies around another one, and in that one's light.

    Light passes through a smear: the cell is divided by its own ground and multiplied by that of
    the other picture, so no rim of its own ground tells where it came from. A black ground, on
    which cells lie that were cut out, stands for white light.

    Args:
        rgb, other: (S, S, 3) uint8. mask, mask_other: (S, S) bool, where their cells lie.
    """
    ground, black = _ground_under(rgb, mask)
    ground_other, black_other = _ground_under(other, mask_other)
    cell = _lit(rgb, _light(ground_other, black_other) / _light(ground, black))
    hole = _widened(mask_other.astype(np.uint8), _apart(other)) > 0
    around = on_ground(np.asarray(ground_other, np.uint8), hole, other)
    return on_ground(cell, mask, around)


def _light(ground: Singles, black: bool) -> Singles:
    """The light behind a smear (S, S, 3); white where the ground is black."""
    return np.full_like(ground, WHITE) if black else np.maximum(ground, 1)


def _lit(rgb: Bytes, factors: Singles) -> Bytes:
    return np.asarray(np.clip(rgb * factors, 0, 255), np.uint8)


def _ground_under(rgb: Bytes, mask: Bools) -> tuple[Singles, bool]:
    """The ground as it goes on beneath everything (S, S, 3), and whether it is black: the brightest
    part of what lies around the cell, smoothed.
    """
    away = _widened(mask.astype(np.uint8), _apart(rgb)) == 0
    seen = away & (brightest(rgb) > BLACK)
    if 2 * np.count_nonzero(seen) < np.count_nonzero(away) or not seen.any():
        return np.zeros(rgb.shape, np.float32), True
    brightness = rgb.sum(axis=2, dtype=np.int64)
    ground = seen & (brightness >= np.quantile(brightness[seen], BRIGHTER))
    side = min(64, len(rgb))
    weighted = np.dstack([rgb * ground[..., None], ground]).astype(np.float32)
    small = cv2.resize(weighted, (side, side), interpolation=cv2.INTER_AREA)
    near = cv2.GaussianBlur(small, (0, 0), WIDE) + 1e-4 * small.mean(axis=(0, 1))
    filled = cv2.resize(near[..., :3] / near[..., 3:], rgb.shape[1::-1])
    return np.asarray(np.clip(filled, 0, 255), np.float32), False


def _apart(rgb: Bytes) -> int:
    return max(round(APART * len(rgb)), 1)


def _widened(mask: Bytes, pixels: int) -> Bytes:
    return np.asarray(cv2.dilate(mask, np.ones((2 * pixels + 1,) * 2, np.uint8)), np.uint8)


def _sought(rgb: Bytes) -> Bools | None:
    seen = brightest(rgb) > BLACK
    stains = _stains(rgb, seen)
    if stains is None:
        return None
    side, colours = len(rgb), _colours(stains)
    rows, columns = np.mgrid[:side, :side] + 0.5
    away = np.hypot(rows / side - 0.5, columns / side - 0.5)
    inner, outer = np.exp(-((away / MIDDLE) ** 2)) * seen, (away > AROUND) * seen.astype(float)
    middle, mask = (side / 2, side / 2), np.zeros((side, side), np.uint8)
    for _ in range(ROUNDS):
        ratios = _ratios(colours, inner, outer)
        mask = _enclosed(_scores(ratios[colours], stains, seen), middle)
        if mask.sum() < LEAST_AREA:
            return None
        moments = cv2.moments(mask, True)
        middle = moments["m10"] / moments["m00"] + 0.5, moments["m01"] / moments["m00"] + 0.5
        inner, outer = mask * seen, (_widened(mask, 3) == 0) * seen
    own = _without_neighbours(mask)
    return own if np.quantile(stains[..., 1][own], DEEP) >= STAINED else None


def _stains(rgb: Bytes, seen: Bools) -> Singles | None:
    """Density, nuclear stain and redness (S, S, 3), by the strongest stains of the picture; None
    where there is hardly any stain.
    """
    smooth = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.8), np.float32)
    white = np.percentile(smooth[seen], 95, axis=0)
    density = np.clip(-np.log((smooth + 1) / (white + 1)), 0, 3)
    strength = float(np.percentile(density.sum(axis=2)[seen], 98))
    if strength < LEAST_STAIN:
        return None
    red, green, blue = np.moveaxis(density * (STRONGEST / strength), 2, 0)
    stains = np.stack([(red + green + blue) / 3, red + green - 2 * blue, red - green], axis=2)
    return np.asarray(stains, np.float32)


def _colours(stains: Singles) -> Ints:
    """(S, S) bin of each pixel's colour."""
    count = np.array(BINS, np.float32)
    bins = np.clip((stains - LOW) / (HIGH - LOW) * count, 0, count - 1).astype(np.int64)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(bins, 2, 0)), BINS), np.int64)


def _ratios(colours: Ints, inner: Array, outer: Array) -> Floats:
    """By how much each colour is more frequent inside than outside, as a logarithm."""
    parts = []
    for weights in (inner, outer):
        counts = np.bincount(colours.ravel(), weights.ravel(), int(np.prod(BINS))).reshape(BINS)
        smooth = _smoothed(np.asarray(counts, np.float64)).ravel()
        parts.append(np.log(smooth / max(smooth.sum(), 1e-9) + SPARSE))
    return np.asarray(np.clip(parts[0] - parts[1], -SURE, SURE))


def _smoothed(counts: Floats) -> Floats:
    """Counts (a, b, c), each spread over the bins beside it."""
    edge = cv2.BORDER_REPLICATE
    across = cv2.GaussianBlur(np.moveaxis(counts, 0, 2).copy(), (0, 0), 1.0, borderType=edge)
    flat = np.moveaxis(across, 2, 0).reshape(len(counts), -1)
    return np.asarray(cv2.GaussianBlur(flat, (1, 0), sigmaX=1e-6, sigmaY=1.0, borderType=edge))


def _scores(ratios: Floats, stains: Singles, seen: Bools) -> Singles:
    """How much each pixel speaks for the cell (S, S)."""
    scores = ratios + np.clip(3 * (stains[..., 1] - VIOLET), 0, 1.5)
    scores = np.where(stains[..., 0] < PALE, np.minimum(scores, -1.5), scores)
    scores = np.where(seen, scores, -3.0).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(scores, (0, 0), 1.0), np.float32)


def _enclosed(scores: Singles, middle: tuple[float, float]) -> Bytes:
    """(S, S) uint8, 1 within the best line around the middle."""
    side = len(scores)
    angles, radii = np.arange(RAYS) * (2 * np.pi / RAYS), np.arange(side // 2) + 0.5
    across, down = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, y = (
        np.asarray(m - 0.5 + part * radii, np.float32)
        for m, part in zip(middle, (across, down), strict=True)
    )
    rays = cv2.remap(
        scores, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-3.0
    )
    sums = np.cumsum(np.pad(rays, ((0, 0), (REACH, REACH)), "edge"), axis=1)
    inside = (sums[:, REACH:-REACH] - sums[:, : -2 * REACH]) / REACH
    outside = (sums[:, 2 * REACH :] - sums[:, REACH:-REACH]) / REACH
    step = np.minimum(inside, INSIDE) - np.maximum(outside, OUTSIDE)
    gains = np.cumsum(rays * radii, axis=1) / (0.2 * side) + EDGE * np.clip(step, 0, 3)
    line = _best_line(gains) + 1.0
    points = np.stack([middle[0] + across[:, 0] * line, middle[1] + down[:, 0] * line], axis=1)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round((points - 0.5) * 16).astype(np.int32)], 1, shift=4)
    return mask


def _best_line(gains: Floats) -> Ints:
    """The closed line (rays,) of radii with the largest sum of gains (rays, radii) less what its
    steps cost; twice around, of which the middle is taken, so that the ends meet.
    """
    rays, radii = gains.shape
    steps = np.arange(-STEP, STEP + 1)
    costs = (STIFF * steps**2)[:, None]
    before = np.arange(radii) + steps[:, None]
    outside = (before < 0) | (before >= radii)
    before = np.clip(before, 0, radii - 1)
    best, chosen = np.zeros(radii), np.empty((2 * rays, radii), np.int64)
    for i in range(2 * rays):
        values = np.where(outside, -np.inf, best[before] - costs)
        taken = values.argmax(axis=0)
        chosen[i] = before[taken, np.arange(radii)]
        best = values[taken, np.arange(radii)] + gains[i % rays]
    line = np.empty(2 * rays, np.int64)
    line[-1] = int(best.argmax())
    for i in range(2 * rays - 1, 0, -1):
        line[i - 1] = chosen[i, line[i]]
    half = rays // 2
    return np.roll(line[half : half + rays], half)


def _without_neighbours(mask: Bytes) -> Bools:
    """The cell in the middle, parted at the neck from another one of its size that touches it."""
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    count, parts, boxes, middles = cv2.connectedComponentsWithStats(
        (depth > CORE * depth.max()).astype(np.uint8)
    )
    areas = boxes[1:, cv2.CC_STAT_AREA]
    cells = [i for i in range(1, count) if areas[i - 1] > TWIN * areas.max()]
    if len(cells) < 2:
        return np.asarray(mask > 0, bool)
    away = [
        cv2.distanceTransform((parts != i).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        for i in cells
    ]
    own = int(np.argmin([np.hypot(*(middles[i] - len(mask) / 2)) for i in cells]))
    return np.asarray((mask > 0) & (np.argmin(away, axis=0) == own), bool)


def _largest(mask: Bools) -> Bools | None:
    """The largest part of a mask; None where there is none."""
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return None
    return np.asarray(parts == 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax()), bool)
