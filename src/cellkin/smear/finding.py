"""Finding the cells of a field: one network, run at one physical scale, tile by tile.

A field is read so that a red cell measures `RED_PIXELS`, whatever microscope and camera took it: by
the ruler where there is one, else by the red cells that the network itself sees, which are asked
again until their size agrees. Cells at the field's edge that are cut off are named border cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cellkin.core.arrays import Bytes, Singles
from cellkin.core.errors import ImageError, RecipeError
from cellkin.core.progress import Progress, silent
from cellkin.imaging.loading import unusable
from cellkin.smear.evened import Evened, overview
from cellkin.smear.field import Box, Field
from cellkin.smear.found import Cell, FoundField
from cellkin.smear.light import WHITE, Light
from cellkin.smear.network import CHANNELS, RED_PIXELS, STRIDE, FinderNetwork
from cellkin.smear.outlines import outlines
from cellkin.smear.ruler import LEAST, RED_CELL, RedCells, Ruler, red_cells

WEIGHTS = Path(__file__).parent.parent / "weights" / "finder.safetensors"
"""The packaged finder; its card lies beside it."""

LEAST_SCORES = {"white cell": 0.35, "smudge": 0.4, "platelet": 0.35, "artefact": 0.4}
FEW, SOME = 3, 10  # isolated red cells whose size is worth a try; the only one that is tried
PROBE = 480  # side of the part, in pixels of what the network sees, in which the scale is told
SURE_RED = 0.3  # score from which on a red cell helps to tell the scale
SCALES = (0.005, 5.0)  # micrometres per pixel that a microscope can have
LIKE = 0.15  # a field's own red cells differ by less from those of its fellows
TILE, OVERLAP = 768, 96  # pixels of what the network sees
PHOTO = 60_000_000  # pixels up to which a field without levels is a photograph, lit by one lamp
SHARED = 0.5  # overlap of two boxes, over the smaller one, from which on they are one cell
CUT = 0.42  # middle nearer to the field's edge than this share of its size: the cell is cut off
FINEST = 1 / 3  # pixels of the field per pixel of what the network sees: more is not in it
GUESSES = (
    5.0,
    9.0,
    16.0,
    28.0,
    50.0,
)  # red cells along the shorter side, where nothing tells the scale
FAINT, LEAST_PIXELS = 205, 20  # in green; so many darker pixels lie in every cell
AGREES = 0.12  # of the scale: nearer than this it is not asked again


@cache
def packaged_finder() -> FinderNetwork:
    """The finder that comes with the package."""
    return FinderNetwork.open(WEIGHTS)


def find(
    source: Field | Path | str,
    *,
    um_per_pixel: float | None = None,
    finder: FinderNetwork | None = None,
    progress: Progress = silent,
) -> FoundField:
    """Find the cells of a field.

    Args:
        source: the field, or its file.
        um_per_pixel: where it is known better than by the file or the red cells.
        finder: another one than comes with the package.

    Raises:
        ImageError: the field cannot be read.
        RecipeError: an impossible `um_per_pixel`.
    """
    if um_per_pixel is not None and not SCALES[0] <= um_per_pixel <= SCALES[1]:
        raise RecipeError(
            f"{um_per_pixel} micrometres per pixel is no scale of a microscope",
            where="um_per_pixel",
            mend="give micrometres per pixel of the field, for instance 0.1",
        )
    if isinstance(source, Field):
        return _find(source, um_per_pixel, finder or packaged_finder(), progress)
    with Field(Path(source)) as field:
        return _find(field, um_per_pixel, finder or packaged_finder(), progress)


def find_all(
    paths: Sequence[Path],
    *,
    um_per_pixel: float | None = None,
    finder: FinderNetwork | None = None,
    progress: Progress = silent,
) -> list[FoundField]:
    """`find_each`, where every field must be readable.

    Raises:
        ImageError: some cannot be read; all are tried, and the error names them.
        RecipeError: as `find`.
    """
    found = find_each(paths, um_per_pixel=um_per_pixel, finder=finder, progress=progress)
    if faults := [one for one in found if isinstance(one, ImageError)]:
        raise unusable(faults, "fields cannot be read")
    return [one for one in found if isinstance(one, FoundField)]


def find_each(
    paths: Sequence[Path],
    *,
    um_per_pixel: float | None = None,
    finder: FinderNetwork | None = None,
    progress: Progress = silent,
) -> list[FoundField | ImageError]:
    """Find the cells of several fields, in their order; in the place of one that cannot be read
    stands its error.

    A field with too few red cells for a ruler of its own takes that of all fields of its size
    together, where its own red cells (three at least) agree with it to 15 %: a microscope and a
    camera leave several fields of one size.

    Raises:
        RecipeError: as `find`.
    """
    found: list[FoundField | ImageError] = []
    for done, path in enumerate(paths, start=1):
        try:
            found.append(find(path, um_per_pixel=um_per_pixel, finder=finder))
        except ImageError as fault:
            found.append(fault)
        progress("finding cells", done, len(paths))
    good = [one for one in found if isinstance(one, FoundField)]
    return [_with_shared_ruler(one, good) if isinstance(one, FoundField) else one for one in found]


def _with_shared_ruler(field: FoundField, fields: Sequence[FoundField]) -> FoundField:
    if field.ruler is not None or len(field.red_cells) < FEW:
        return field
    size = (field.width, field.height)
    alike = [other for other in fields if (other.width, other.height) == size]
    together = RedCells.together([other.red_cells for other in alike])
    if len(together) < LEAST or abs(field.red_cells.mean / together.mean - 1) > LIKE:
        return field
    ruler = Ruler.by(together)
    assert ruler is not None
    return replace(field, ruler=replace(ruler, fields=len(alike)))


def _find(
    field: Field, given: float | None, network: FinderNetwork, progress: Progress
) -> FoundField:
    view, step = overview(field)
    light = Light.of(view) if field.width * field.height <= PHOTO else None
    even = Evened(field, light, view)
    reds = _reds(even, view, step)
    ruler = _ruler(field, given, reds)
    if ruler is not None:
        downsample = RED_CELL / ruler.um_per_pixel / RED_PIXELS
    else:
        downsample = _told_by_network(even, network, reds)
    cells = _search(even, downsample, network, progress)
    return FoundField(
        path=field.path,
        width=field.width,
        height=field.height,
        ruler=ruler,
        light=light,
        downsample=downsample,
        red_cells=reds,
        cells=tuple(cells),
        outlines=tuple(outlines(even, cells, downsample)),
    )


def red_cells_of(field: Field) -> RedCells:
    """The isolated round red cells of a field, diameters in its pixels.

    Raises:
        ImageError: the field is black.
    """
    view, step = overview(field)
    light = Light.of(view) if field.width * field.height <= PHOTO else None
    return _reds(Evened(field, light, view), view, step)


def _reds(even: Evened, view: Bytes, step: float) -> RedCells:
    return RedCells(red_cells(even.overview(view)).diameters * np.float32(step))


def _ruler(field: Field, given: float | None, reds: RedCells) -> Ruler | None:
    if given is not None:
        return Ruler(given, "given")
    if field.um_per_pixel is not None:
        return Ruler(field.um_per_pixel, "metadata")
    return Ruler.by(reds)


def _told_by_network(even: Evened, network: FinderNetwork, reds: RedCells) -> float:
    """Pixels of the field per pixel at which the network sees red cells of their right size."""
    shorter = min(even.field.width, even.field.height)
    starts = [reds.mean / RED_PIXELS] if len(reds) >= FEW else []
    if len(reds) < SOME:
        starts += [max(shorter / guess / RED_PIXELS, FINEST) for guess in GUESSES]
    seen = [(*_reds_seen(even, start, network), start) for start in starts]
    share, size, best = max(seen)
    for _ in range(3):
        if share == 0 or abs(np.log(size / RED_PIXELS)) < AGREES:
            break
        best = max(best * size / RED_PIXELS, FINEST)
        share, size = _reds_seen(even, best, network)
    return best


def _reds_seen(even: Evened, downsample: float, network: FinderNetwork) -> tuple[float, float]:
    """In the middle of a field: the share that the network calls red cells of their right size, and
    the middle size in its pixels of all that it calls red cells.
    """
    rgb = even.part(_middle(even.field, PROBE * downsample), downsample)
    heat, shapes = _looked(network, rgb, mirrored=False)
    red = CHANNELS.index("red cell")
    rows, columns = peaks(heat[red], SURE_RED)
    if not len(rows):
        return 0.0, RED_PIXELS
    sizes = STRIDE * np.exp(shapes[2:, rows, columns].mean(axis=0))
    fits = np.exp(-((np.log(sizes / RED_PIXELS) / 0.4) ** 2))
    share = (heat[red, rows, columns] * fits * sizes**2).sum() / (rgb.shape[0] * rgb.shape[1])
    return float(share), float(np.median(sizes))


def _middle(field: Field, side: float) -> Box:
    """A square of the field around its middle, as far as the field reaches."""
    x, y, reach = field.width // 2, field.height // 2, int(side / 2)
    return (
        max(x - reach, 0),
        max(y - reach, 0),
        min(x + reach, field.width),
        min(y + reach, field.height),
    )


def _search(
    even: Evened, downsample: float, network: FinderNetwork, progress: Progress
) -> list[Cell]:
    """All cells, each found in the tile in whose inner part its middle lies."""
    field = even.field
    side, overlap = (int(n * downsample) for n in (TILE, OVERLAP))
    boxes = list(field.tiles(side, overlap))
    found: list[Cell] = []
    for done, box in enumerate(boxes, start=1):
        progress("finding cells", done, len(boxes))
        rgb = even.part(box, downsample)
        if _is_empty(rgb):
            continue
        heat, shapes = _looked(network, rgb)
        found += [
            cell
            for cell in _decoded(heat, shapes, box, downsample)
            if _inner(cell, box, overlap / 2, field)
        ]
    return [_at_border(cell, field) for cell in _single(found)]


def _is_empty(rgb: Bytes) -> bool:
    """Whether nothing lies on the ground: most of a slide is empty, and need not be looked at."""
    return bool(np.count_nonzero(rgb[..., 1] < FAINT) < LEAST_PIXELS)


def _looked(
    network: FinderNetwork, rgb: Bytes, *, mirrored: bool = True
) -> tuple[Singles, Singles]:
    """Heat maps in [0, 1] (kinds, h, w), averaged with those of the mirror image, and shapes
    (4, h, w).
    """
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % 16), (0, -width % 16), (0, 0)), constant_values=WHITE)
    x = torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        heat, shapes = network(x)
        heat = heat.sigmoid()
        if mirrored:
            heat = (heat + network(x.flip(-1))[0].flip(-1).sigmoid()) / 2
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    return heat[0, :, :rows, :columns].numpy(), shapes[0, :, :rows, :columns].numpy()


def peaks(heat: Singles, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns where a heat map is highest around."""
    around = F.max_pool2d(torch.from_numpy(heat)[None, None], 3, 1, 1)[0, 0].numpy()
    rows, columns = np.nonzero((heat == around) & (heat >= least))
    return rows, columns


def _decoded(heat: Singles, shapes: Singles, box: Box, downsample: float) -> Iterator[Cell]:
    """The cells of a tile, in pixels of the field."""
    factor = STRIDE * downsample
    for kind, least in LEAST_SCORES.items():
        plane = heat[CHANNELS.index(kind)]
        for row, column in zip(*peaks(plane, least), strict=True):
            dx, dy, w, h = (float(v) for v in shapes[:, row, column])
            x, y = box[0] + (column + dx) * factor, box[1] + (row + dy) * factor
            half_w, half_h = np.exp(w) * factor / 2, np.exp(h) * factor / 2
            yield Cell(
                x,
                y,
                x - half_w,
                y - half_h,
                x + half_w,
                y + half_h,
                kind,
                float(plane[row, column]),
            )


def _inner(cell: Cell, box: Box, margin: float, field: Field) -> bool:
    """Whether a cell's middle lies in a tile's own part: half of each overlap, all of each edge."""
    left = box[0] + margin if box[0] > 0 else -np.inf
    top = box[1] + margin if box[1] > 0 else -np.inf
    right = box[2] - margin if box[2] < field.width else np.inf
    bottom = box[3] - margin if box[3] < field.height else np.inf
    return bool(left <= cell.x < right and top <= cell.y < bottom)


def _single(cells: Sequence[Cell]) -> list[Cell]:
    """Of several findings of one thing, the surest."""
    kept: list[Cell] = []
    for cell in sorted(cells, key=lambda c: -c.score):
        if all(
            _shared(cell, other) < SHARED
            for other in kept
            if abs(other.x - cell.x) < 2 * (other.right - other.left)
        ):
            kept.append(cell)
    return sorted(kept, key=lambda c: (c.y, c.x))


def _shared(a: Cell, b: Cell) -> float:
    """Overlap of two boxes over the smaller one."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c.right - c.left) * (c.bottom - c.top) for c in (a, b)]
    return width * height / max(min(areas), 1e-9)


def _at_border(cell: Cell, field: Field) -> Cell:
    """A white cell that the field's edge cuts is a border cell; no box leaves the field."""
    near = min(cell.x, cell.y, field.width - cell.x, field.height - cell.y)
    size = max(cell.right - cell.left, cell.bottom - cell.top)
    kind = "border" if cell.kind == "white cell" and near < CUT * size else cell.kind
    x, y = float(np.clip(cell.x, 0, field.width)), float(np.clip(cell.y, 0, field.height))
    return replace(
        cell,
        x=x,
        y=y,
        left=max(cell.left, 0.0),
        top=max(cell.top, 0.0),
        right=min(cell.right, float(field.width)),
        bottom=min(cell.bottom, float(field.height)),
        kind=kind,
    )
