"""Deciding on very many images as works: a block of files is one, and its answers are kept.

Neither the images nor the answers are ever together in memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from cellkin.core.artifacts import digest, file_sha256
from cellkin.core.engine import Seat
from cellkin.core.errors import ImageError
from cellkin.core.kept import Answers, Jobs, Kept, do_all
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Decision
from cellkin.datasets.listing import Files
from cellkin.decision import COVERAGE
from cellkin.learning.threads import threads
from cellkin.system.support import DecisionSupport, How

WORTH = 4
"""Blocks that are decided on here, one by one, where there are no more."""


@dataclass(frozen=True)
class Asked:
    """How is decided.

    Attributes:
        atlas: its folder. device: see `choose_device`.
        subject, coverage, um_per_pixel, place: see `DecisionSupport.decide`.
    """

    atlas: Path
    device: str = "auto"
    subject: str | None = None
    coverage: float = COVERAGE
    um_per_pixel: float | None = None
    place: str | None = None

    @property
    def state(self) -> str:
        """What the atlas is; it changes with any of its files."""
        manifest = self.atlas / "atlas.json"
        return file_sha256(manifest) if manifest.is_file() else ""

    def how(self) -> How:
        return How(
            subject=self.subject,
            coverage=self.coverage,
            um_per_pixel=self.um_per_pixel,
            place=self.place,
        )

    def opened(self) -> DecisionSupport:
        """The atlas, opened once in a process.

        Raises:
            ArtifactError: it is no atlas, or damaged.
        """
        return _opened(self.atlas, self.device, self.state)


@lru_cache(maxsize=1)
def _opened(folder: Path, device: str, state: str) -> DecisionSupport:
    return DecisionSupport.open(folder, device=device)


@dataclass(frozen=True)
class DecideWork:
    """A block of files to decide on, by an atlas in this state."""

    files: Files
    asked: Asked
    state: str

    @cached_property
    def key(self) -> str:
        """A hash of the files' names, sizes and times, and of how they are decided on."""
        states = []
        for path in self.files.paths:
            try:
                found = os.stat(path)
                states.append([str(path), found.st_size, found.st_mtime_ns])
            except OSError:  # it will be said when it is read
                states.append([str(path)])
        asked = self.asked
        return digest([self.state, asked.how(), states])


def decide_block(work: DecideWork, seat: Seat) -> Kept:
    """The decisions of a block as plain data, in order, and what was wrong with the other files."""
    asked = work.asked
    dss = asked.opened()
    with threads(1):
        found = dss.decide(work.files.paths, **asked.how())
    faults = [(e.what, e.where, e.mend) for e in found if isinstance(e, ImageError)]
    decisions = [d.to_json() for d in found if isinstance(d, Decision)]
    return Kept({"decisions": decisions, "faults": faults}, {})


def decide_all(
    works: Sequence[DecideWork], answers: Answers, jobs: Jobs, *, progress: Progress = silent
) -> Iterator[DecideWork]:
    """Do the works; each is handed on in its turn, when those before it are done.

    Raises:
        CellkinError: of many kinds, where a block cannot be decided on.
        OutputError, RecipeError: see `cellkin.core.kept`.
    """
    place = {work.key: number for number, work in enumerate(works)}
    total = sum(len(work.files.names) for work in works)
    ready, following, done = bytearray(len(works)), 0, 0
    for work, trouble in do_all(deque(works), decide_block, answers, jobs.crew):
        if trouble is not None:
            raise trouble.error()
        done += len(work.files.names)
        progress("deciding", done, total)
        ready[place[work.key]] = True
        while following < len(works) and ready[following]:
            yield works[following]
            following += 1


def decided(answers: Answers, work: DecideWork) -> Iterator[Decision | ImageError]:
    """What was decided on the files of a block that is done; an unreadable one has its error."""
    facts = answers.facts(work.key)
    for what, where, mend in facts["faults"]:
        yield ImageError(what, where=where, mend=mend)
    for data in facts["decisions"]:
        yield Decision.from_json(data)
