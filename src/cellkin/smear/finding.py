"""Finding the cells of fields: the way in.

A field is read so that a red cell measures 24 pixels, whatever microscope and camera took it: by
the ruler where there is one, else by the red cells that the network itself sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from cellkin.core.errors import ImageError, RecipeError
from cellkin.core.kept import Answers, Jobs, do_all
from cellkin.core.progress import Progress, silent
from cellkin.imaging.loading import unusable
from cellkin.smear.found import FoundField
from cellkin.smear.jobs import FieldWork, Search, SearchWork, finder_of, parts_works
from cellkin.smear.keeping import (
    Outlines,
    kept_cells,
    kept_red_cells,
    kept_ruler,
    kept_survey,
)
from cellkin.smear.ruler import RedCells, Ruler
from cellkin.smear.searching import single
from cellkin.smear.suitable import FEW, Tally, notes_of, unsuitable

if TYPE_CHECKING:
    from cellkin.smear.network import FinderNetwork

SCALES = (0.005, 5.0)  # micrometres per pixel that a microscope can have
WORTH = 8
"""Fields that are searched here, one by one, where there are no more."""
TASK, UNREAD = "finding cells", "fields cannot be read"
LIKE = 0.15  # a field's own red cells differ by less from those of its fellows


class How(TypedDict, total=False):
    """What a search can be told, see `searched`."""

    um_per_pixel: float | None
    finder: FinderNetwork | Path | str | None
    jobs: Jobs
    progress: Progress


def find(path: Path | str, **how: Unpack[How]) -> FoundField:
    """Find the cells of one field; how is told as to `searched`.

    Raises:
        ImageError: the field cannot be read.
        RecipeError, OutputError: as `searched`.
    """
    (found,) = find_all([Path(path)], **how)
    return found


def find_all(paths: Sequence[Path], **how: Unpack[How]) -> list[FoundField]:
    """`find_each`, where every field must be readable.

    Raises:
        ImageError: some cannot be read; all are tried, and the error names them.
        RecipeError, OutputError: as `searched`.
    """
    found = find_each(paths, **how)
    if faults := [one for one in found if isinstance(one, ImageError)]:
        raise unusable(faults, UNREAD)
    return [one for one in found if isinstance(one, FoundField)]


def find_each(paths: Sequence[Path], **how: Unpack[How]) -> list[FoundField | ImageError]:
    """Find the cells of several fields, in their order; in the place of one that cannot be read
    stands its error.

    Raises:
        RecipeError, OutputError: as `searched`.
    """
    with searched(paths, **how) as found:
        return found.each(paths)


@contextmanager
def searched(
    paths: Sequence[Path],
    *,
    um_per_pixel: float | None = None,
    finder: FinderNetwork | Path | str | None = None,
    jobs: Jobs = Jobs(),
    progress: Progress = silent,
) -> Iterator[FoundFields]:
    """Search fields, each held in memory only while it is looked at. What was kept on disk is
    removed when the block ends well.

    A field with too few red cells for a ruler of its own takes that of all fields of its size
    together, where its own red cells (three at least) agree with it to 15 %: a microscope and a
    camera leave several fields of one size.

    Args:
        um_per_pixel: where it is known better than by the files or the red cells.
        finder: another one than comes with the package, or the folder of a fitted one.
        jobs: who searches, and whether what is done is kept on disk.

    Raises:
        ArtifactError, WeightsError: `finder` is no finder's folder.
        RecipeError: an impossible `um_per_pixel`, or a crew that cannot be.
        OutputError: see `cellkin.core.kept.Answers`.
    """
    if um_per_pixel is not None and not SCALES[0] <= um_per_pixel <= SCALES[1]:
        raise RecipeError(
            f"{um_per_pixel} micrometres per pixel is no scale of a microscope",
            where="um_per_pixel",
            mend="give micrometres per pixel of the field, for instance 0.1",
        )
    do = Search(None if finder is None else finder_of(finder))
    works = [FieldWork(Path(path), um_per_pixel, do.by) for path in paths]
    with Answers(jobs) as answers:
        faults = _search(works, do, answers, (jobs, progress))
        yield FoundFields(works, answers, faults)
        answers.remove()


def _search(
    works: Sequence[FieldWork], do: Search, answers: Answers, how: tuple[Jobs, Progress]
) -> dict[Path, ImageError]:
    """Do the works; a slide that was looked at is searched by works of its own. What cannot be
    read, by path.
    """
    jobs, progress = how
    waiting: deque[SearchWork] = deque(works)
    total, faults, others = len(works), dict[Path, ImageError](), []
    progress(TASK, 0, total)
    for done, (work, trouble) in enumerate(do_all(waiting, do, answers, jobs.crew), start=1):
        if trouble is not None:
            error = trouble.error()
            if isinstance(error, ImageError):
                faults[work.path] = error
            else:
                others.append(error)
        elif isinstance(work, FieldWork):
            more = parts_works(work, answers)
            waiting.extend(more)
            total += len(more)
        progress(TASK, done, total)
    for error in others:
        raise error
    return faults


class FoundFields(Sequence[FoundField]):
    """The fields that could be read, each brought back from where it is kept when asked for.

    Attributes:
        faults: what is wrong with the others, by path.
    """

    def __init__(
        self, works: Sequence[FieldWork], answers: Answers, faults: Mapping[Path, ImageError]
    ) -> None:
        self.faults = faults
        self._works = [work for work in works if work.path not in faults]
        self._answers = answers
        self._rulers = _shared_rulers([answers.facts(work.key) for work in self._works])
        self._last: tuple[int, FoundField] | None = None

    def each(self, paths: Sequence[Path]) -> list[FoundField | ImageError]:
        """All of them in this order, with the error in the place of one that cannot be read."""
        read = iter(self)
        return [self.faults.get(Path(path)) or next(read) for path in paths]

    def __len__(self) -> int:
        return len(self._works)

    def __getitem__(self, index: int) -> FoundField:  # type: ignore[override]
        if self._last is None or self._last[0] != index:
            self._last = (index, self._brought(index))
        return self._last[1]

    def _brought(self, index: int) -> FoundField:
        work = self._works[index]
        facts, arrays = self._answers.facts(work.key), self._answers.arrays(work.key)
        seen = kept_survey(facts, arrays)
        later = [part.key for part in parts_works(work, self._answers)]
        packs = [self._answers.arrays(key) for key in later] if later else [arrays]
        places = {cell: (p, i) for p, a in enumerate(packs) for i, cell in enumerate(kept_cells(a))}
        cells = single([*places])
        tally = Tally.total([self._answers.facts(key)["tally"] for key in later or [work.key]])
        why_not = unsuitable(tally, seen.glance, cells)
        notes = notes_of(tally, self._rulers[index], seen.red_cells)
        return FoundField(
            path=work.path,
            width=facts["width"],
            height=facts["height"],
            ruler=self._rulers[index],
            light=seen.light,
            white=seen.white,
            downsample=seen.downsample,
            red_cells=seen.red_cells,
            suitable=not why_not,
            notes=(*[why_not] * bool(why_not), *notes),
            cells=tuple(cells),
            outlines=Outlines(packs, np.array([places[c] for c in cells], int).reshape(-1, 2)),
        )


def _shared_rulers(fields: Sequence[Mapping[str, Any]]) -> list[Ruler | None]:
    """The rulers of surveyed fields; one with too few red cells takes that of all of its size."""
    sizes: dict[tuple[int, int], list[RedCells]] = {}
    for facts in fields:
        reds = kept_red_cells(facts)
        sizes.setdefault((facts["width"], facts["height"]), []).append(reds)
    together = {size: RedCells.together(reds) for size, reds in sizes.items()}
    found = []
    for facts in fields:
        own, reds, size = (
            kept_ruler(facts),
            kept_red_cells(facts),
            (facts["width"], facts["height"]),
        )
        shared = Ruler.by(together[size]) if own is None and len(reds) >= FEW else None
        if shared is not None and abs(reds.mean / together[size].mean - 1) <= LIKE:
            own = replace(shared, fields=len(sizes[size]))
        found.append(own)
    return found
