"""Where crops were cut from: for each one the field and the position, or that there is none.

Cells of one field share stain, light and focus, and often the patient: whoever splits crops whose
fields are known can keep a field on one side. Fields become one group where they are documented to
overlap, where they are found to (`auditing.fields`), and where a crop of one shows what a crop of
the other shows (`auditing.pairs`).

Crops are sought as they are first; those not found are then sought at every scale and orientation
that is allowed. A crop counts as found when its detail agrees with one place, block by block
(`FOUND`) and with no place of another group nearly as well (`MARGIN`); see docs/locate.md for the
scores of true and false places behind these two numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from cellkin.core.errors import RecipeError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef, Sample
from cellkin.datasets.listing import Listing, list_folder
from cellkin.datasets.locating.matching import ORIENTATIONS, SAME, Hit, Piece, Poses, search_field
from cellkin.datasets.locating.notebook import Notebook
from cellkin.datasets.parts.grouping import grouped
from cellkin.datasets.readers import allidb1, allidb2
from cellkin.imaging.decode import decode

FOUND = 0.8
"""Least score (see `cellkin.datasets.locating.matching.Hit`) for a crop to count as found."""
MARGIN = 0.1
"""Least lead over the best place in fields of another group."""

WORKERS = min(4, os.cpu_count() or 1)
STEP = 0.04  # relative distance of the scales that are tried at the coarse level
LIMITS = (0.5, 2.0)

STATES = ("found", "none", "ambiguous")


@dataclass(frozen=True)
class Location:
    """What is known about one crop.

    Attributes:
        crop: path relative to the folder of crops. state: "found", "none" or "ambiguous" (places
            in two fields that do not overlap agree about equally; the better one is given).
        hit: the place and the pose; None where the state is "none".
        field: path relative to the folder of fields; None where the state is "none".
        group: name of the field's group, or of all that belong together ("a+b"); a crop without a
            field is a group of its own, with crops that show the same.
        score: of the best place, 0 where no place was worth a close look.
    """

    crop: str
    state: str
    group: str
    field: str | None = None
    hit: Hit | None = None
    score: float = 0.0


@dataclass(frozen=True)
class Located:
    """All crops in order; the group of every field, and its width and height in pixels."""

    crops: tuple[Location, ...]
    groups: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]

    def counts(self) -> dict[str, int]:
        """Crops by state."""
        states = [location.state for location in self.crops]
        return {state: states.count(state) for state in STATES}


def locate(
    crops: str | Path,
    fields: str | Path,
    *,
    scales: tuple[float, float] = (0.8, 1.25),
    all_orientations: bool = True,
    notebook: Path | None = None,
    progress: Progress = silent,
) -> Located:
    """Find for each crop the field and the position it was cut from.

    Args:
        crops, fields: folders of images.
        scales: least and greatest number of crop pixels per field pixel; (1, 1) for crops that
            were not resampled.
        all_orientations: crops may have been turned by multiples of 90 degrees and mirrored.
        notebook: a file to note each field's result in while searching; a stopped search goes on
            from there, and the file is removed when all is done.

    Raises:
        LayoutError: a folder is missing or holds no image.
        ImageError: an image cannot be read.
        RecipeError: impossible scales.
        OutputError: the notebook belongs to another search, or cannot be written.
    """
    wide = _poses(scales, all_orientations)
    crop_list, field_list = list_folder(crops), list_folder(fields)
    groups = _field_groups(field_list, progress)
    twins = _twin_crops(crop_list, progress)
    pieces = [
        _piece(crop_list.root, name, progress, at, crop_list.images)
        for at, name in enumerate(crop_list.images)
    ]
    search = _Search(field_list.root, tuple(field_list.images), progress)
    notes = Notebook(notebook, _question(crop_list.root, crop_list.images, search, wide))
    answers = search.run("as they are", pieces, Poses(), notes)
    if wide is not None:
        found = {hit.piece for _, hit in answers if hit.score >= FOUND}
        rest = [piece for piece in pieces if piece.name not in found]
        kept = [(name, hit) for name, hit in answers if hit.piece in found]
        answers = kept + search.run("turned and resampled", rest, wide, notes) if rest else kept
    notes.close()
    located = [_location(piece.name, answers, groups) for piece in pieces]
    joined = grouped({place.crop: place.group for place in located}, twins)
    names = {place.group: joined[place.crop] for place in located}
    groups = {field: names.get(group, group) for field, group in groups.items()}
    again = (_location(piece.name, answers, groups) for piece in pieces)
    final = (replace(place, group=joined[place.crop]) for place in again)
    return Located(tuple(final), groups, _sizes(field_list))


def _sizes(fields: Listing) -> dict[str, tuple[int, int]]:
    found = {}
    for name in fields.images:
        with Image.open(fields.root / name) as header:
            found[name] = header.size
    return found


def _field_groups(fields: Listing, progress: Progress) -> dict[str, str]:
    """Group of every field: documented, or found to overlap."""
    from cellkin.datasets.auditing.fields import field_look, overlapping

    names = fields.images
    with ThreadPoolExecutor(WORKERS) as pool:
        looks = []
        for look in pool.map(lambda name: field_look(decode(fields.root / name)), names):
            looks.append(look)
            progress("looking at fields", len(looks), len(names))
    found = [(names[o.first], names[o.second]) for o in overlapping(looks, progress)]
    return grouped({name: name for name in names} | allidb1.documented(fields), found)


def _twin_crops(crops: Listing, progress: Progress) -> list[tuple[str, ...]]:
    """Crops that are documented to show the same, or are found to."""
    from cellkin.datasets.auditing.pairs import duplicates
    from cellkin.datasets.auditing.views import view_all

    samples = [Sample(name, ImageRef(crops.root / name), ()) for name in crops.images]
    views = view_all(samples, progress)
    seen = [view for view in views if not view.error]
    found, _ = duplicates(seen, progress)
    names = [(seen[m.first].sample.id, seen[m.second].sample.id) for m in found]
    return [*allidb2.documented(crops), *names]


def _poses(scales: tuple[float, float], all_orientations: bool) -> Poses | None:
    """What to try on crops that are not found as they are; None where there is nothing else."""
    low, high = scales
    if not LIMITS[0] <= low <= high <= LIMITS[1]:
        raise RecipeError(
            f"scales from {low:g} to {high:g} are not possible",
            where="scales",
            mend=f"give two numbers between {LIMITS[0]:g} and {LIMITS[1]:g}, the lesser first",
        )
    count = 1 + int(np.ceil(np.log(high / low) / STEP))
    tried = tuple(float(s) for s in np.geomspace(low, high, count)) if low < high else (low,)
    if tried == (1.0,) and not all_orientations:
        return None
    return Poses(tried, ORIENTATIONS if all_orientations else SAME, 16)


def _piece(root: Path, name: str, progress: Progress, at: int, names: Sequence[str]) -> Piece:
    piece = Piece(name, _light(root / name))
    progress("reading crops", at + 1, len(names))
    return piece


def _light(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The green channel, in which stained cells stand out most."""
    return np.ascontiguousarray(decode(file)[..., 1], np.float32)


def _question(root: Path, names: Sequence[str], search: _Search, poses: Poses | None) -> object:
    """What a notebook's answers answer: the files by name and size, and the poses."""
    return {
        "crops": [[name, (root / name).stat().st_size] for name in names],
        "fields": [[name, (search.root / name).stat().st_size] for name in search.names],
        "poses": None if poses is None else [poses.scales, poses.orientations, poses.grid],
    }


Answers = list[tuple[str, Hit]]


@dataclass(frozen=True)
class _Search:
    root: Path
    names: tuple[str, ...]
    progress: Progress

    def run(self, how: str, pieces: Sequence[Piece], poses: Poses, notes: Notebook) -> Answers:
        """All (field, hit) of all pieces, the best first."""
        answers: Answers = []
        todo = []
        for name in self.names:
            known = notes.read(how, name)
            if known is None:
                todo.append(name)
            answers += [(name, hit) for hit in known or ()]
        done = len(self.names) - len(todo)
        for name, hits in _in_order(todo, partial(self._one, pieces, poses)):
            notes.write(how, name, hits)
            answers += [(name, hit) for hit in hits]
            done += 1
            self.progress(f"searching fields for crops {how}", done, len(self.names))
        return sorted(answers, key=lambda answer: (-answer[1].score, answer[0]))

    def _one(self, pieces: Sequence[Piece], poses: Poses, name: str) -> list[Hit]:
        return search_field(_light(self.root / name), pieces, poses)


def _in_order(names: Sequence[str], work: partial[list[Hit]]) -> Iterator[tuple[str, list[Hit]]]:
    """Results in the order of the names, a few at a time beside each other."""
    rest = iter(names)
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: list[tuple[str, Future[list[Hit]]]] = [
            (name, pool.submit(work, name)) for name in islice(rest, WORKERS + 1)
        ]
        try:
            while waiting:
                name, future = waiting.pop(0)
                yield name, future.result()
                waiting.extend((name, pool.submit(work, name)) for name in islice(rest, 1))
        finally:
            for _, future in waiting:
                future.cancel()


def _location(crop: str, answers: Answers, groups: Mapping[str, str]) -> Location:
    own = [(field, hit) for field, hit in answers if hit.piece == crop]
    best = own[0][1].score if own else 0.0
    if best < FOUND:
        return Location(crop, "none", f"alone: {crop}", score=best)
    field, hit = own[0]
    rivals = [other.score for name, other in own if groups[name] != groups[field]]
    state = "ambiguous" if max(rivals, default=-1.0) > best - MARGIN else "found"
    return Location(crop, state, groups[field], field, hit, best)
