"""Rooms that are shared out fairly by person: for slow work, and for bytes that wait on the disk.

Slow work never takes the place of quick work: each kind has a room of its own (`Rooms`), so many
may be in it, so many wait, and nobody waits longer than its deadline: then the answer is 503 with
Retry-After. Of those who wait, whoever has least inside comes next, and nobody fills a whole room.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, TypeVar

from anyio import CapacityLimiter, Event, fail_after, to_thread
from fastapi.routing import APIRoute

from cellkin.web.problems import LATER, ProblemError
from cellkin.web.settings import Waiting

Result = TypeVar("Result")
ASKER: ContextVar[str] = ContextVar("asker", default="")
"""Whose request is answered: a person's name, or an address where nobody signed in."""


@dataclass(eq=False)
class _Turn:
    person: str
    size: int
    come: Event = field(default_factory=Event)


class Room:
    """Space that is shared out by person. For the event loop's thread alone.

    Args:
        what: how the work is called in answers. space: how much fits, in what `size` counts.
        share: the most that one person has of it; at least half of it by default.
        waiting: how many may wait. seconds: how long one waits.
    """

    def __init__(
        self, what: str, space: int, *, waiting: int, seconds: float, share: int | None = None
    ) -> None:
        self.what, self.space, self.waiting, self.seconds = what, space, waiting, seconds
        self.share = (space + 1) // 2 if share is None else share
        self._inside: Counter[str] = Counter()
        self._turns: list[_Turn] = []
        self._served: dict[str, int] = {}  # those who are here -> the number of their last turn
        self._count = 0
        self._threads: CapacityLimiter | None = None

    @property
    def taken(self) -> int:
        """How much is inside now."""
        return sum(self._inside.values())

    async def run(self, call: Callable[..., Result], *given: Any) -> Result:
        """Run something slow in a thread when there is place; `space` counts threads then.

        Raises:
            ProblemError: 503, there is no place in time.
        """
        async with self.place():
            if self._threads is None:  # it belongs to the event loop that runs by now
                self._threads = CapacityLimiter(self.space)
            return await to_thread.run_sync(partial(call, *given), limiter=self._threads)

    @asynccontextmanager
    async def place(self, size: int = 1) -> AsyncIterator[None]:
        """A place of this size, held until the block ends.

        Raises:
            ProblemError: 503, too many wait already, or nothing was free in time.
        """
        turn = _Turn(ASKER.get(), min(size, self.share))
        own = sum(other.person == turn.person for other in self._turns)
        if len(self._turns) >= self.waiting or own >= max(1, self.waiting // 2):
            raise self._busy()
        self._turns.append(turn)
        self._admit()
        try:
            try:
                with fail_after(self.seconds):
                    await turn.come.wait()
            except TimeoutError:  # its turn may have come in that very moment: it is given back
                raise self._busy() from None
            yield
        finally:
            self._leave(turn)

    def _admit(self) -> None:
        while fitting := [turn for turn in self._turns if self._may_enter(turn)]:
            turn = min(fitting, key=self._rank)
            if self.taken + turn.size > self.space:
                return  # it waits for its room: smaller ones behind it must not starve it
            self._turns.remove(turn)
            self._inside[turn.person] += turn.size
            self._count += 1
            self._served[turn.person] = self._count
            turn.come.set()

    def _rank(self, turn: _Turn) -> tuple[int, int]:
        """Whoever has least inside comes first, then who has not had a turn for longest."""
        return self._inside[turn.person], self._served.get(turn.person, 0)

    def _may_enter(self, turn: _Turn) -> bool:
        return self._inside[turn.person] + turn.size <= self.share

    def _leave(self, turn: _Turn) -> None:
        if turn.come.is_set():
            self._inside[turn.person] -= turn.size
            if not self._inside[turn.person]:
                del self._inside[turn.person]
        elif turn in self._turns:
            self._turns.remove(turn)
        self._admit()
        if not self._inside[turn.person] and turn.person not in {one.person for one in self._turns}:
            self._served.pop(turn.person, None)

    def _busy(self) -> ProblemError:
        return ProblemError(
            503,
            "busy",
            f"the workstation is busy: {self.what} waited too long",
            mend="try again",
            headers=LATER,
        )


class Rooms:
    """The rooms of one workstation.

    Args:
        waiting: deadlines. spool: bytes of uploads that may lie on the disk at once; one person's
            take half of it.
    """

    def __init__(self, waiting: Waiting, spool: int) -> None:
        self.reading = Room("reading", 16, waiting=256, seconds=waiting.reading)
        self.writing = Room("a change", 4, waiting=256, seconds=waiting.writing)
        self.login = Room("a password", 2, waiting=32, seconds=waiting.login)
        self.reports = Room("a report", 2, waiting=128, seconds=waiting.reports)
        self.printing = Room("a report", 2, waiting=128, seconds=waiting.reports)
        self.evidence = Room("the evidence", 4, waiting=128, seconds=waiting.evidence)
        self.uploads = Room("an upload", 4, waiting=128, seconds=waiting.uploads)
        self.spool = Room("an upload", spool, waiting=128, seconds=waiting.uploads)


def works_in(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Name the room, an attribute of `Rooms`, that a route's function runs in."""

    def marked(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        endpoint.room = name  # type: ignore[attr-defined]
        return endpoint

    return marked


class Housed(APIRoute):
    """A route whose function runs in a room of its own: the one it names (`works_in`), otherwise
    "reading" for GET and "writing" for all that may change something.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not inspect.iscoroutinefunction(endpoint):
            reads = set(options.get("methods") or {"GET"}) <= {"GET", "HEAD"}
            name = getattr(endpoint, "room", "reading" if reads else "writing")
            endpoint = _housed(endpoint, name)
        super().__init__(path, endpoint, **options)


def _housed(endpoint: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(endpoint)
    async def housed(**given: Any) -> Any:
        room: Room = getattr(given["station"].rooms, name)
        return await room.run(partial(endpoint, **given))

    return housed
