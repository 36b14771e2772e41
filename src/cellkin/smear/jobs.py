"""The search as works: a photograph is one, a slide one for its look and more for its parts.

What is found depends neither on who does the works nor on when.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cellkin.core.artifacts import digest
from cellkin.core.engine import Seat
from cellkin.core.kept import Answers, Kept
from cellkin.learning.threads import threads
from cellkin.smear.evened import Evened
from cellkin.smear.field import Field
from cellkin.smear.keeping import cells_kept, kept_survey, survey_kept
from cellkin.smear.searching import parts_of, search
from cellkin.smear.suitable import Tally
from cellkin.smear.surveying import Survey, survey

if TYPE_CHECKING:  # torch takes seconds to import
    from cellkin.smear.network import FinderNetwork

WEIGHTS = Path(__file__).parent.parent / "weights" / "finder.safetensors"
"""The packaged finder; its card lies beside it."""

TOGETHER = 16  # parts of a slide in one work: some seconds


@cache
def packaged_finder() -> FinderNetwork:
    """The finder that comes with the package."""
    from cellkin.smear.network import FinderNetwork

    return FinderNetwork.open(WEIGHTS)


def finder_of(source: FinderNetwork | Path | str) -> FinderNetwork:
    """A finder's network, or that of a fitted finder's folder.

    Raises:
        ArtifactError, WeightsError: see `FinderNetwork.of`.
    """
    from cellkin.smear.network import FinderNetwork

    return FinderNetwork.of(source)


@dataclass(frozen=True)
class FieldWork:
    """A field to be looked at, and searched if it is no slide of many parts.

    Attributes:
        given: micrometres per pixel, where told. by: fingerprint of the finder.
    """

    path: Path
    given: float | None
    by: str

    @cached_property
    def key(self) -> str:
        """A hash of all that decides what is found."""
        try:
            state = self.path.stat()
            file = [str(self.path.resolve()), state.st_size, state.st_mtime_ns]
        except OSError:  # it will be said when it is read
            file = [str(self.path)]
        return digest([file, self.given, self.by, TOGETHER])


@dataclass(frozen=True, eq=False)
class PartsWork:
    """Some parts of a slide that was looked at, from number `first` on."""

    field: FieldWork
    survey: Survey
    first: int

    @property
    def path(self) -> Path:
        return self.field.path

    @property
    def key(self) -> str:
        return f"{self.field.key}/{self.first}"


SearchWork = FieldWork | PartsWork


def parts_works(work: FieldWork, answers: Answers) -> list[PartsWork]:
    """The works of a slide that was looked at; none for a photograph."""
    facts = answers.facts(work.key)
    if not facts["parts"]:
        return []
    seen = kept_survey(facts, answers.arrays(work.key))
    return [PartsWork(work, seen, first) for first in range(0, facts["parts"], TOGETHER)]


class Search:
    """How a work is done.

    Args:
        finder: another one than comes with the package.
    """

    def __init__(self, finder: FinderNetwork | None = None) -> None:
        self._finder = finder
        self.by = (finder or packaged_finder()).fingerprint()

    def __call__(self, work: SearchWork, seat: Seat) -> Kept:
        """Look, search, or both.

        Raises:
            ImageError: the field cannot be read, or is black.
        """
        network = self._finder or packaged_finder()
        with threads(1), Field(work.path) as field:
            if isinstance(work, PartsWork):
                return _found(field, work.survey, work.first, network)
            return _looked_at(field, work.given, network)


def _looked_at(field: Field, given: float | None, network: FinderNetwork) -> Kept:
    seen = survey(field, given, network)
    parts = len(parts_of(field, seen.downsample))
    later = field.by_parts and parts > TOGETHER
    facts = {"width": field.width, "height": field.height, "parts": parts if later else 0}
    kept = survey_kept(seen)
    found = Kept({}, {}) if later else _found(field, seen, None, network)
    return Kept({**kept.facts, **facts, **found.facts}, {**kept.arrays, **found.arrays})


def _found(field: Field, seen: Survey, first: int | None, network: FinderNetwork) -> Kept:
    """What lies in some parts of a field, or in all."""
    even = Evened(field, seen.light, seen.white)
    boxes = parts_of(field, seen.downsample)
    own = boxes if first is None else boxes[first : first + TOGETHER]
    found = [search(even, box, seen.downsample, network) for box in own]
    cells = [cell for some, _, _ in found for cell in some]
    tally = Tally.total([each.to_json() for _, _, each in found])
    outlines = [outline for _, some, _ in found for outline in some]
    return Kept({"tally": tally.to_json()}, cells_kept(cells, outlines))
