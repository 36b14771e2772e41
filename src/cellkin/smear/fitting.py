"""Fitting the packaged finder to a laboratory's own fields, and saying what it was worth.

Fields that are held back, by file or by group, are never learned from: on them white cells are
counted before and after. Where nothing is known (kinds that nobody marked, ground of fields whose
marks are not complete) the finder is held to what it said before, and to nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.arrays import Singles
from cellkin.core.artifacts import digest, file_sha256, new_folder, refuse_existing
from cellkin.core.errors import DataError, RecipeError
from cellkin.core.manifests import write_manifest
from cellkin.core.plain import plain_fields
from cellkin.core.progress import Progress, silent
from cellkin.measures.intervals import Share, share_of
from cellkin.smear.evened import Evened
from cellkin.smear.field import Field
from cellkin.smear.finding import find_all
from cellkin.smear.found import Cell, FoundField
from cellkin.smear.jobs import WEIGHTS, packaged_finder
from cellkin.smear.marks import UNCLEAR, Mark, MarkedField, Marks, kinds_of
from cellkin.smear.network import MANIFEST, NETWORK, SCHEMA, FinderNetwork
from cellkin.smear.ruler import RED_CELL
from cellkin.smear.scenes import Marked, Painter
from cellkin.smear.seeing import CHANNELS
from cellkin.smear.training import FinderTraining, teach
from cellkin.smear.varying import SceneOptions

SCALE = 0.2  # micrometres per pixel at which fields are learned from: a red cell measures 36 pixels
USUAL = {"white cell": 13.0, "smudge": 14.0, "platelet": 3.0, "artefact": 4.0, "red cell": 7.2}
"""Micrometres across, of a cell of which only the middle was marked and that was not found."""
KEPT = 20  # steps between checkpoints
WHOLE_REDS = 4  # boxes of red cells off the edge that tell the scale of a field
LARGEST = 60_000_000  # pixels of a field that is learned from; a slide is none
PAINTED = SceneOptions(zoom=0.25, pasted=0.0, stain=0.1, gain=0.2, plain=0.4)
"""One laboratory's pictures: less other stain, lamp and scale than between laboratories."""


@dataclass(frozen=True)
class FitOptions:
    """How a finder is fitted.

    Attributes:
        kinds: class in the marks -> kind, where its name does not say it; see `marks.kinds_of`.
        partial: not all cells of the marked kinds are marked: unmarked ground is then not known.
        um_per_pixel: of all fields, where it is known better than by the files or the red cells.
        held_back: share of the fields (or groups) that are held back, at least one.
        steps, seed: of the training.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False
    um_per_pixel: float | None = None
    held_back: float = 0.2
    steps: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Counts:
    """White cells in the fields held back.

    Attributes:
        found: of the marked ones, those with the middle of a found cell of their own in their box.
        right: of the found ones, those that are marked; None where not all are marked.
    """

    found: Share
    right: Share | None


@dataclass(frozen=True)
class Fit:
    """A finder that was fitted: where it lies, learned from which fields, worth what on others."""

    folder: Path
    learned: tuple[str, ...]
    held_out: tuple[str, ...]
    kinds: Mapping[str, str]
    before: Counts
    after: Counts

    @property
    def worse(self) -> bool:
        """Whether fewer were found, or fewer of the found were right, than before."""
        pairs = [(self.before.found, self.after.found)]
        if self.before.right and self.after.right:
            pairs.append((self.before.right, self.after.right))
        return any((a.share or 0) < (b.share or 0) for b, a in pairs)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**plain_fields(self, without=("folder",)), "finder": str(self.folder)}


def fit_finder(
    marks: Marks,
    out: str | Path,
    options: FitOptions = FitOptions(),
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Fit:
    """Fit the packaged finder to marked fields; stopped, the same call goes on where it was.

    Raises:
        DataError: fewer than two fields (groups), or one too large to learn from.
        LabelError: see `marks.kinds_of`. RecipeError: no step, or an impossible share.
        ImageError: a field cannot be read. TrainingError: another fit was left at `out`.
        OutputError: `out` exists, or cannot be written.
    """
    out = Path(out).expanduser()
    if not overwrite:
        refuse_existing(out)
    kinds = kinds_of(marks.names, options.kinds)
    learned, held = parted(marks.fields, options)
    seen = _seen(marks.fields, options, packaged_finder(), progress)
    painter = Painter(
        {"own": [marked(one, seen[one.path], kinds, options.partial) for one in learned]},
        {},
        {"own": 1.0},
        PAINTED,
    )
    left = out.with_name(f"{out.name}.training")
    if overwrite and not out.exists():
        shutil.rmtree(left, ignore_errors=True)
    how = FinderTraining(steps=options.steps, batch=8, lr=4e-4, seed=options.seed, kept=KEPT)
    network = teach(
        painter,
        how,
        left / "checkpoint.pt",
        start=packaged_finder(),
        task=_task(learned, kinds, options),
        progress=progress,
    )
    before = counted(held, seen, kinds, options.partial)
    after = counted(held, _seen(held, options, network, progress), kinds, options.partial)
    fit = Fit(out, _names(learned), _names(held), kinds, before, after)
    with new_folder(out, overwrite=overwrite) as building:
        network.save(building / NETWORK)
        write_manifest(building, MANIFEST, _card(fit, options))
    shutil.rmtree(left, ignore_errors=True)
    return fit


def parted(
    fields: Sequence[MarkedField], options: FitOptions
) -> tuple[list[MarkedField], list[MarkedField]]:
    """Fields to learn from and fields held back, whole groups; by the seed.

    Raises:
        DataError: they are all of one group. RecipeError: an impossible share or number of steps.
    """
    if not 0 < options.held_back < 1 or options.steps < 1:
        raise RecipeError(
            "this is no fit",
            where=f"steps = {options.steps}, held back = {options.held_back}",
            mend="give at least one step, and hold back a share between 0 and 1",
        )
    groups = sorted({_group(one) for one in fields})
    if len(groups) < 2:
        raise DataError(
            "all marked fields are of one group: nothing could be held back to measure the fit",
            where=f"{len(fields)} fields",
            mend="mark at least two fields (of two groups); ten or more are needed to tell much",
        )
    order = np.random.default_rng(options.seed).permutation(len(groups))
    count = min(max(round(options.held_back * len(groups)), 1), len(groups) - 1)
    chosen = {groups[i] for i in order[:count].tolist()}
    parts: tuple[list[MarkedField], list[MarkedField]] = ([], [])
    for one in fields:
        parts[_group(one) in chosen].append(one)
    return parts


def _group(one: MarkedField) -> str:
    return f"group {one.group}" if one.group else f"file {one.path}"


def _names(fields: Sequence[MarkedField]) -> tuple[str, ...]:
    return tuple(one.path.name for one in fields)


def _seen(
    fields: Sequence[MarkedField], options: FitOptions, network: FinderNetwork, progress: Progress
) -> dict[Path, FoundField]:
    for one in fields:
        if one.width * one.height > LARGEST:
            raise DataError(
                f"{one.path.name} is a slide of {one.width} x {one.height} pixels",
                where=one.path,
                mend="cut the regions that were marked out as fields of up to 60 megapixels",
            )
    paths = [one.path for one in fields]
    found = find_all(paths, um_per_pixel=options.um_per_pixel, finder=network, progress=progress)
    return dict(zip(paths, found, strict=True))


# what is learned from --------------------------------------------------------------------------


def marked(one: MarkedField, found: FoundField, kinds: Mapping[str, str], partial: bool) -> Marked:
    """A field in even light at `SCALE` with its marks, middles grown to boxes."""
    um = scale_of(one, found, kinds)
    with Field(one.path) as opened:
        even = Evened(opened, found.light, found.white)
        rgb = even.part((0, 0, opened.width, opened.height), SCALE / um)
    factor = rgb.shape[1] / found.width
    boxes, types, unclear = [], [], []
    for mark in one.marks:
        kind = kinds[mark.name]
        box = box_of(mark, kind, found.cells, um)
        if kind == UNCLEAR:
            unclear.append(box)
        else:
            boxes.append(box)
            types.append(CHANNELS.index(kind))
    known = tuple(not partial and kind in kinds.values() for kind in CHANNELS)
    return Marked(
        rgb,
        SCALE,
        _array(boxes) * factor,
        np.array(types, np.int64),
        _array(unclear) * factor,
        known,
    )


def _array(boxes: Sequence[Sequence[float]]) -> Singles:
    return np.array(boxes, np.float32).reshape(-1, 4)


def scale_of(one: MarkedField, found: FoundField, kinds: Mapping[str, str]) -> float:
    """Micrometres per pixel: by the ruler, else by marked red cells, else as the finder saw it."""
    if found.ruler is not None:
        return found.ruler.um_per_pixel
    reds = [
        max(right - left, bottom - top)
        for left, top, right, bottom in (m.box for m in one.marks if kinds[m.name] == "red cell")
        if min(left, top) > 3 and right < found.width - 3 and bottom < found.height - 3
    ]
    reds = [size for size in reds if size > 0]
    if len(reds) >= WHOLE_REDS:
        return RED_CELL / float(np.median(reds))
    return found.cut_um_per_pixel


def box_of(
    mark: Mark, kind: str, cells: Sequence[Cell], um: float
) -> tuple[float, float, float, float]:
    """The box of a mark; of a middle, that of the cell of its kind that was found there, else one
    of the usual size.
    """
    if not mark.point:
        return mark.box
    x, y = mark.box[:2]
    own = [
        cell
        for cell in cells
        if cell.left <= x <= cell.right
        and cell.top <= y <= cell.bottom
        and kind in (cell.kind, "white cell" if cell.kind == "border" else "")
    ]
    if own:
        near = min(own, key=lambda cell: np.hypot(cell.x - x, cell.y - y))
        return near.left, near.top, near.right, near.bottom
    half = USUAL.get(kind, USUAL["white cell"]) / um / 2
    return x - half, y - half, x + half, y + half


# what it was worth -----------------------------------------------------------------------------


def counted(
    fields: Sequence[MarkedField],
    found: Mapping[Path, FoundField],
    kinds: Mapping[str, str],
    partial: bool,
) -> Counts:
    """White cells marked and found; what is marked unclear counts neither way."""
    hits = there = said = 0
    for one in fields:
        seen = found[one.path]
        um = scale_of(one, seen, kinds)
        boxes = {
            kind: [box_of(m, kind, (), um) for m in one.marks if kinds[m.name] == kind]
            for kind in ("white cell", UNCLEAR)
        }
        middles = [(c.x, c.y) for c in seen.cells if c.kind in ("white cell", "border")]
        own = matched(middles, boxes["white cell"])
        rest = [middle for k, middle in enumerate(middles) if k not in own]
        unsure = matched(rest, boxes[UNCLEAR])
        hits, there = hits + len(own), there + len(boxes["white cell"])
        said += len(middles) - len(unsure)
    right = None if partial else _share(hits, said)
    return Counts(_share(hits, there), right)


def _share(count: int, n: int) -> Share:
    return share_of([True] * count + [False] * (n - count))


def matched(
    middles: Sequence[tuple[float, float]], boxes: Sequence[tuple[float, float, float, float]]
) -> set[int]:
    """The middles that have a box of their own: the nearest pairs first, one middle for a box."""
    pairs = sorted(
        (float(np.hypot(x - (left + right) / 2, y - (top + bottom) / 2)), k, j)
        for k, (x, y) in enumerate(middles)
        for j, (left, top, right, bottom) in enumerate(boxes)
        if left <= x <= right and top <= y <= bottom
    )
    taken: set[int] = set()
    given: set[int] = set()
    for _, k, j in pairs:
        if k not in taken and j not in given:
            taken.add(k)
            given.add(j)
    return taken


def _task(learned: Sequence[MarkedField], kinds: Mapping[str, str], options: FitOptions) -> str:
    """What a training is of: it goes on only with the same."""
    told = [[str(one.path), [[m.name, *m.box] for m in one.marks]] for one in learned]
    return digest([told, dict(kinds), {**asdict(options), "kinds": dict(options.kinds)}])


def _card(fit: Fit, options: FitOptions) -> dict[str, Any]:
    return {
        **plain_fields(fit, without=("folder",)),
        **plain_fields(options, without=("kinds",)),
        "kind": "finder",
        "schema": SCHEMA,
        "started_from": {"name": "the packaged finder", "sha256": file_sha256(WEIGHTS)},
    }
