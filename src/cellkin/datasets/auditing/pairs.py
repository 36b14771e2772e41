"""Pairs of images that show the same thing: found, verified, and named by how they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, combinations, product

import numpy as np

from cellkin.core.numbers import percent
from cellkin.core.progress import Progress, silent
from cellkin.datasets.auditing.alignment import Fit, align, measured, placed
from cellkin.datasets.auditing.fields import overlapping
from cellkin.datasets.auditing.pictures import WINDOWS, Picture, picture
from cellkin.datasets.auditing.proposals import Proposal, by_keypoints, by_looks
from cellkin.datasets.auditing.views import View
from cellkin.imaging.decode import decode

LIKENESS, OUTLINE = 0.75, 0.8
DETAIL, DETAIL_CUT_OUT = 0.68, 0.4
"""What two images must reach to be one (a segmented cell has no red cells around it that all look
alike): see the decision on duplicates for where these lie."""

EVERY_PAIR = 6  # images of one exact group up to which every pair is listed
WHOLE = 0.93  # of the smaller image: less is an overlap of two fields
CROPPED = 0.93  # area of one over the other: less is a crop
EQUAL = 0.1  # grey levels
RECODED = 3.0  # grey levels, and a detail of
RECODED_DETAIL = 0.96
RECOLOURED = 8.0
TURN = 4.0  # degrees
FIELDS = 1000  # whole fields up to which every one is compared with every other
KEPT = 512  # pictures in memory


@dataclass(frozen=True)
class Match:
    """Two images, by number, that belong together; the fields are those of `DuplicatePair`."""

    first: int
    second: int
    kind: str
    relation: str
    score: float = 1.0
    overlap: float = 1.0
    difference: float = 0.0


def duplicates(views: Sequence[View], progress: Progress = silent) -> tuple[list[Match], int]:
    """All pairs of images that show the same or share a part, by numbers within `views`.

    Args:
        views: of images that can be read.

    Returns:
        the matches, and how many pairs were laid over each other.
    """
    equal, kept = exact(views)
    alike, compared = near([views[i] for i in kept], progress)
    first = {views[i].pixels: i for i in kept}
    twins: dict[int, list[int]] = defaultdict(list)
    for number, seen in enumerate(views):
        twins[first[seen.pixels]].append(number)
    by_kept = {place: twins[number] for place, number in enumerate(kept)}
    return [*equal, *_spread(alike, by_kept)], compared


def exact(views: Sequence[View]) -> tuple[list[Match], list[int]]:
    """Equal files and equal pixels, and one representative of every image's pixels.

    Returns:
        the matches (each pair of a small group; in a large one each image with the first), and the
        numbers of readable images that differ from each other in some pixel.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, seen in enumerate(views):
        if not seen.error:
            groups[seen.pixels].append(number)
    matches = []
    for members in groups.values():
        for a, b in _listed(members):
            same = views[a].sha256 is not None and views[a].sha256 == views[b].sha256
            kind = "same file" if same else "same pixels"
            words = "equal byte for byte" if same else "equal in every pixel, another file"
            matches.append(Match(a, b, kind, words))
    return matches, sorted(members[0] for members in groups.values())


def _listed(members: Sequence[int]) -> Iterator[tuple[int, int]]:
    if len(members) <= EVERY_PAIR:
        yield from combinations(members, 2)
    else:
        yield from product(members[:1], members[1:])


def near(views: Sequence[View], progress: Progress = silent) -> tuple[list[Match], int]:
    """Near duplicates and overlapping fields among images that differ in some pixel.

    Returns:
        the matches, by numbers within `views`, and how many pairs were laid over each other.
    """
    pictures = lru_cache(KEPT)(lambda i: picture(decode(views[i].sample.image)))
    laid = _laid_over(_proposals(views, progress), pictures, progress)
    found: dict[tuple[int, int], Match] = {}
    compared = set()
    for key, match in chain(laid, _of_fields(views, pictures, progress)):
        compared.add(key)
        if match is not None and (key not in found or found[key].score < match.score):
            found[key] = match
    return [found[key] for key in sorted(found)], len(compared)


Keyed = Iterator[tuple[tuple[int, int], Match | None]]


def _proposals(views: Sequence[View], progress: Progress) -> list[Proposal]:
    grids = [seen.grids for seen in views if seen.grids is not None]
    points = [seen.points for seen in views if seen.points is not None]
    found = [*by_keypoints(points, progress), *by_looks(np.asarray(grids), progress)]
    return sorted(found, key=lambda proposal: (proposal.first, proposal.second))


def _laid_over(
    proposals: Sequence[Proposal], pictures: Callable[[int], Picture], progress: Progress
) -> Keyed:
    for done, proposal in enumerate(proposals, start=1):
        match = _verified(proposal, pictures(proposal.first), pictures(proposal.second))
        first, second = sorted((proposal.first, proposal.second))
        yield (first, second), match
        progress("laying pairs over each other", done, len(proposals))


def _of_fields(
    views: Sequence[View], pictures: Callable[[int], Picture], progress: Progress
) -> Keyed:
    """Whole fields of view that share a part; their score is that of `fields.Overlap`."""
    numbers = [number for number, seen in enumerate(views) if seen.field is not None]
    looks = [seen.field for seen in views if seen.field is not None]
    if len(numbers) > FIELDS:
        return
    for overlap in overlapping(looks, progress):
        first, second = numbers[overlap.first], numbers[overlap.second]
        pair = pictures(first), pictures(second)
        sizes = looks[overlap.first].shape, looks[overlap.second].shape
        down, up = (p.shape[1] / size[1] for p, size in zip(pair, sizes, strict=True))
        fit = measured(*pair, overlap.matrix * [up / down, up / down, up])
        if fit is not None:
            proved = replace(fit, detail=overlap.score)
            yield (first, second), _matched((first, second), proved, *pair)


def _verified(proposal: Proposal, first: Picture, second: Picture) -> Match | None:
    start = proposal.matrix
    if start is None:
        start = placed(proposal.orientation, WINDOWS[proposal.window], first, second)
    fit = align(first, second, start)
    if fit is None or fit.likeness < LIKENESS or fit.outline < OUTLINE:
        return None
    cut_out = not (first.mask.all() and second.mask.all())
    if fit.detail < (DETAIL_CUT_OUT if cut_out else DETAIL):
        return None
    return _matched((proposal.first, proposal.second), fit, first, second)


def _matched(numbers: tuple[int, int], fit: Fit, first: Picture, second: Picture) -> Match:
    return Match(
        *numbers,
        "near duplicate" if fit.overlap >= WHOLE else "overlap",
        _relation(fit, first, second),
        round(fit.detail, 4),
        round(fit.overlap, 4),
        round(fit.difference, 2),
    )


def _relation(fit: Fit, first: Picture, second: Picture) -> str:
    words = [_turned(fit)]
    if fit.overlap < WHOLE:
        words.append(f"overlapping by {percent(fit.overlap, 0)}")
    else:
        area = abs(float(np.linalg.det(fit.matrix[:, :2])))
        shared = area * first.shape[0] * first.shape[1] / (second.shape[0] * second.shape[1])
        left = min(shared, 1 / shared)
        words.append(f"cropped to {percent(left, 0)} of its area" if left < CROPPED else "")
    if fit.difference <= EQUAL and not any(words):
        words.append("equal, in another frame")
    elif fit.difference > RECOLOURED:
        words.append("in other colours")
    elif fit.detail >= RECODED_DETAIL and fit.difference <= RECODED and not any(words):
        words.append("re-encoded")
    return ", ".join(filter(None, words)) or "another picture of the same"


def _turned(fit: Fit) -> str:
    linear = fit.matrix[:, :2]
    mirror = bool(np.linalg.det(linear) < 0)
    turn = linear @ np.diag([-1.0 if mirror else 1.0, 1.0])
    angle = float(np.degrees(np.arctan2(turn[0, 1] - turn[1, 0], turn[0, 0] + turn[1, 1]))) % 360
    quarter = round(angle / 90) * 90
    shown = quarter % 360 if abs(angle - quarter) < TURN else round(angle)
    parts = ["mirrored" if mirror else "", f"rotated by {shown} degrees" if shown else ""]
    return " and ".join(filter(None, parts))


def _spread(matches: Sequence[Match], twins: Mapping[int, Sequence[int]]) -> list[Match]:
    """Carry matches between representatives over to the images that equal them in every pixel.

    Of large groups only the representatives are listed; the clusters hold every image anyhow.
    """
    found = []
    for match in matches:
        left, right = twins[match.first], twins[match.second]
        if len(left) * len(right) > EVERY_PAIR**2:
            left, right = left[:1], right[:1]
        found += [replace(match, first=a, second=b) for a, b in product(left, right)]
    return found
