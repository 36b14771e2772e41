"""Doing many works: in this process, in workers on this machine, or through Ray.

All engines hand back the same answers for the same works, as long as a work depends on nothing but
itself. A worker that is lost loses the work in its hands alone; it is tried again. A work that
fails is told and passed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Protocol, TypeVar

from cellkin.core import errors
from cellkin.core.errors import CellkinError, OutputError, RecipeError, did_you_mean
from cellkin.core.progress import Progress, silent

ENGINES = ("local", "ray")
TRIES = 3  # of a work whose worker was lost
STORE = 200_000_000  # bytes of Ray's object store; answers are small
AHEAD = 2  # works for each worker of Ray that are handed out at once


class Work(Protocol):
    """Something to do; equal keys, equal answers."""

    @property
    def key(self) -> str: ...


@dataclass(frozen=True)
class Seat:
    """Where a work is done: which of the workers, and whom it tells how far it is."""

    number: int = 0
    progress: Progress = silent


W = TypeVar("W", bound=Work)
A = TypeVar("A")
Do = Callable[[W, Seat], A]
"""How a work is done; other processes must be able to import it."""


@dataclass(frozen=True)
class Trouble:
    """Why a work failed; as `cellkin.core.errors` tells it. `kind` is the error's name."""

    kind: str
    what: str
    where: str
    mend: str

    @classmethod
    def of(cls, error: Exception) -> Trouble:
        """From an error; one of ours is told by its last line of code."""
        if isinstance(error, CellkinError):
            return cls(type(error).__name__, error.what, error.where, error.mend)
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in last)
        mend = "--resume tries it again; report it if it fails again"
        if isinstance(error, MemoryError):
            mend = "take fewer --workers, smaller images or a smaller batch; then --resume"
        return cls(type(error).__name__, str(error) or "no message", where, mend)

    def error(self) -> CellkinError | RuntimeError:
        """The error that it tells of; a `RuntimeError` where that was none of a user's."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, CellkinError):
            return kind(self.what, where=self.where, mend=self.mend)
        if self == LOST:
            return CellkinError(self.what, where=self.where, mend=self.mend)
        return RuntimeError(f"{self.kind}: {self.what} ({self.where})")


LOST = Trouble(
    "WorkerLost",
    f"the worker was lost {TRIES} times (killed, or out of memory)",
    "a process that did the work",
    "take fewer --workers, or look for what kills them; then --resume",
)


@dataclass(frozen=True)
class Crew:
    """Who does the works.

    Attributes:
        engine: "local" or "ray". address: of a Ray cluster; None starts one on this machine.
        workers: works at once; 0 for as many as the cores (or GPUs) allow.
        threads: cores that a work takes. gpus: of this machine, where each work takes one.
        worth: so few works are done here, one by one: workers take seconds to start.
        start: what each worker on this machine does first.
    """

    engine: str = "local"
    address: str | None = None
    workers: int = 0
    threads: int = 1
    gpus: int = 0
    worth: int = 1
    start: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise RecipeError(
                f"there is no engine {self.engine!r}",
                where="--engine",
                mend=did_you_mean(self.engine, ENGINES) or f"use {' or '.join(ENGINES)}",
            )
        if self.workers < 0:
            raise RecipeError(f"{self.workers} workers", where="--workers", mend="give 0 or more")
        if self.address is not None and self.engine != "ray":
            raise RecipeError(
                "an address says where a Ray cluster is", where="--address", mend="add --engine ray"
            )

    @property
    def count(self) -> int:
        """How many works at once on this machine."""
        if self.workers or self.gpus:
            return self.workers or self.gpus
        known = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
        return max(1, cores // self.threads)


def run_all(
    works: deque[W], do: Do[W, A], crew: Crew, progress: Progress = silent
) -> Iterator[tuple[W, A | Trouble]]:
    """Do all works; each is handed on when it is done, in whatever order that happens.

    Works that the caller adds to `works` meanwhile are done as well. Workers are gone when the
    iteration ends, for whatever reason.

    Args:
        progress: tells of the steps inside a work, where one process does them all.

    Raises:
        RecipeError: Ray is asked for and not installed, or cannot be reached.
    """
    while works:
        if crew.engine == "ray":
            yield from _by_ray(works, do, crew)
        elif crew.count > 1 and len(works) > crew.worth:
            yield from _by_workers(works, do, crew)
        else:
            work = works.popleft()
            yield work, _attempt(work, do, Seat(progress=progress))


def _attempt(work: W, do: Do[W, A], seat: Seat) -> A | Trouble:
    try:
        return do(work, seat)
    except Exception as error:
        if os.environ.get("CELLKIN_DEBUG") == "1":
            traceback.print_exc()
        return Trouble.of(error)


# workers on this machine -----------------------------------------------------------------------


class _Worker:
    """A process that does one work after the other."""

    def __init__(self, number: int, do: Do[Any, Any], start: Callable[[], object] | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        told = (theirs, do, Seat(number), start)
        self.process = context.Process(target=_serve, args=told, daemon=True)
        self.process.start()
        theirs.close()
        self.work: Any = None

    def give(self, work: Any) -> None:
        self.work = work
        with suppress(OSError):  # a worker that died idle: the answer will say so
            self.line.send(work)

    def answer(self) -> Any:
        """What came back, in a tuple; None where the process is gone."""
        self.work = None
        try:
            return (self.line.recv(),)
        except (EOFError, OSError):
            return None

    def stop(self) -> None:
        self.line.close()
        self.process.kill()
        self.process.join()


def _serve(
    line: Any, do: Do[Any, Any], seat: Seat, start: Callable[[], object] | None = None
) -> None:
    """A worker's life; it ends with its parent's, so that no two ever write one file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_follow_parent, daemon=True).start()
    if start is not None:
        start()
    while True:
        try:
            work = line.recv()
        except EOFError:
            return
        line.send(_attempt(work, do, seat))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _by_workers(works: deque[W], do: Do[W, A], crew: Crew) -> Iterator[tuple[W, A | Trouble]]:
    lost = Counter[str]()
    seats: list[_Worker] = []
    try:
        while works or any(worker.work for worker in seats):
            _hand_out(works, seats, do, crew)
            ready = connection.wait([worker.line for worker in seats if worker.work])
            for number, worker in enumerate(seats):
                if (work := worker.work) is None or worker.line not in ready:
                    continue
                answer = worker.answer()
                if answer is not None:
                    yield work, answer[0]
                    continue
                worker.stop()
                seats[number] = _Worker(number, do, crew.start)
                lost[work.key] += 1
                if lost[work.key] < TRIES:
                    works.appendleft(work)
                else:
                    yield work, LOST
    finally:
        for worker in seats:
            worker.stop()


def _hand_out(works: deque[W], seats: list[_Worker], do: Do[W, A], crew: Crew) -> None:
    """Give every idle worker a work; there are no more workers than works to do."""
    for worker in seats:
        if worker.work is None and works:
            worker.give(works.popleft())
    while works and len(seats) < crew.count:
        seats.append(_Worker(len(seats), do, crew.start))
        seats[-1].give(works.popleft())


# Ray -------------------------------------------------------------------------------------------


def _by_ray(works: deque[W], do: Do[W, A], crew: Crew) -> Iterator[tuple[W, A | Trouble]]:
    ray = _started(crew)
    gpus = 1 if crew.gpus else 0
    remote = ray.remote(num_cpus=crew.threads, num_gpus=gpus, max_retries=TRIES - 1)(_attempt)
    most = AHEAD * max(int(ray.cluster_resources().get("CPU", 1)) // crew.threads, 1)
    running: dict[Any, W] = {}
    try:
        while works or running:
            while works and len(running) < most:
                work = works.popleft()
                running[remote.remote(work, do, Seat())] = work
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            work = running.pop(ready)
            try:
                answer: A | Trouble = ray.get(ready)
            except ray.exceptions.RayError as error:
                lost = isinstance(error, ray.exceptions.WorkerCrashedError)
                answer = LOST if lost else Trouble.of(error)
            yield work, answer
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _started(crew: Crew) -> Any:
    """Ray, connected to the cluster, or with one of its own on this machine."""
    try:
        import ray
    except ModuleNotFoundError:
        raise RecipeError(
            "Ray is not installed", where="--engine ray", mend="pip install 'cellkin[ray]'"
        ) from None
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    own: dict[str, Any] = {
        "num_cpus": crew.count * crew.threads,
        "include_dashboard": False,
        "object_store_memory": STORE,
    }
    try:
        ray.init(address=crew.address, **quiet) if crew.address else ray.init(**own, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"Ray cannot be reached: {str(error).splitlines()[0]}",
            where=f"--address {crew.address or '(this machine)'}",
            mend="start it with `ray start --head`, or correct the address",
        ) from error
    return ray
